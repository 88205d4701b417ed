"""How a config asks for PPO: the block `estimator: {kind: ppo, ...}` and what goes with it."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from learned_opt.naming import check_name
from meta_train.config.errors import Problem
from meta_train.config.schema import Described, Model, describe
from meta_train.learners.ppo.settings import PPO, Bucket

BucketBlock = describe(None, Bucket)
# Keys of a config that say nothing to PPO, whose buckets hold all that there is to say.
FOREIGN = (
    "horizon", "objective", "measure", "only", "expert", "resume", "family_scale",
    "histograms_every",
)  # fmt: skip


class _WithBuckets(Described):
    buckets: tuple[BucketBlock, ...] = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=(),
        description="where episodes come from; [] for one bucket of 16 pauses of 24 steps per task",
    )

    def build(self, **rest: Any) -> Any:
        """The settings. Raises ValueError."""
        return super().build(buckets=tuple(bucket.build() for bucket in self.buckets), **rest)


PPOBlock = describe("ppo", PPO, _WithBuckets, without=("buckets",))


def is_ppo(estimator: Model) -> bool:
    return isinstance(estimator, PPOBlock)


def check_ppo(config: Any, names: list[str]) -> Iterator[Problem]:
    """What in a whole config does not go with its PPO block; names: of the task families."""
    if config.optimizer.kind != "lhopt":
        yield Problem(("estimator",), f"ppo trains lhopt, not {config.optimizer.kind}")
    for key in FOREIGN:
        default = type(config).model_fields[key].get_default(call_default_factory=True)
        value = getattr(config, key)
        plain = value.model_dump(exclude_defaults=True) if isinstance(value, Model) else value
        if plain != default:
            yield Problem(
                (key,), "says nothing to ppo, whose buckets say how runs go; leave it out"
            )
    for i, block in enumerate(config.tasks):
        if block.weight != 1.0:
            yield Problem(("tasks", i, "weight"), "ppo weighs tasks by the episodes of buckets")
    yield from check_buckets(config.estimator, names, ())


def check_buckets(block: Any, names: list[str], path: tuple[str | int, ...]) -> Iterator[Problem]:
    """What is wrong with the buckets of one block, at `path`."""
    try:
        block.build()
    except ValueError as error:
        yield Problem((*path, "estimator"), str(error))
        return
    for i, bucket in enumerate(block.buckets):
        try:
            check_name("task", bucket.task, names)
        except ValueError as error:
            message = str(error).removeprefix("task: ")
            yield Problem((*path, "estimator", "buckets", i, "task"), message)
    if block.buckets and (idle := set(names) - {bucket.task for bucket in block.buckets}):
        listed = ", ".join(sorted(idle))
        yield Problem((*path, "estimator", "buckets"), f"there is none for the tasks {listed}")
