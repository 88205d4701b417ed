"""From a config to the objects it describes."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax

from learned_opt import io
from learned_opt.base import Theta
from learned_opt.monitoring.record import record
from learned_opt.naming import check_name
from meta_train.config.errors import ConfigError, Problem
from meta_train.config.model import Config, families
from meta_train.config.ppo import is_ppo
from meta_train.config.stages import stages
from meta_train.estimators.base import GradientEstimator
from meta_train.evaluation.evaluate import selection_score
from meta_train.inner.objectives import Objective
from meta_train.inner.unroll import Episodes
from meta_train.learners.base import MetaLearner
from meta_train.learners.gradient import GradientLearner
from meta_train.learners.ppo.environment import Environment
from meta_train.learners.ppo.learner import PPOLearner
from meta_train.learners.ppo.settings import Bucket
from meta_train.parallel import Parallel
from meta_train.run.curriculum import Curriculum
from tasks.augment.base import augment
from tasks.base import TaskMix

RECORDS = 2  # that wait in the state for the loop, which fetches one as the next is made


def build_tasks(config: Config, source: str = "config") -> TaskMix:
    """The families of a run and their weights; a sampled block's weight is shared by its tasks.

    Raises ConfigError for every task that costs more than the limit or that an augmentation does
    not suit.
    """
    limit = config.limit.build()
    augmentations = [block.build() for block in config.augmentations]
    found, weights, problems = [], [], []
    for i, block in enumerate(config.tasks):
        try:
            drawn = families(block, limit)
        except ValueError as error:
            problems.append(Problem(("tasks", i), str(error)))
            continue
        for family in drawn:
            if excess := limit.excess(family):
                problems.append(Problem(("tasks", i), excess))
            try:
                found += augment((family,), augmentations, config.seed)
            except ValueError as error:
                problems.append(_problem(error))
            weights.append(block.weight / len(drawn))
    if problems:
        raise ConfigError(source, problems)
    return TaskMix(tuple(found), tuple(weights))


def build_learner(config: Config, source: str = "config") -> MetaLearner:
    """The learner of a run; starts JAX and reads the data of the families.

    source: names the config in messages. Raises ConfigError with every problem that only shows when
    the parts meet (window longer than a run, objective that does not suit a task), MissingData.
    """
    if not is_ppo(config.estimator):
        return build_gradient_learner(config, source)
    mix = build_tasks(config, source)
    try:
        return _build_ppo(config, mix, Parallel(config.parallel.backend, config.parallel.devices))
    except ValueError as error:
        raise ConfigError(source, [_problem(error)]) from None


def build_gradient_learner(config: Config, source: str = "config") -> GradientLearner:
    """As `build_learner`, for a config whose estimator gives gradients."""
    if config.horizon is None or is_ppo(config.estimator):
        raise ConfigError(source, [Problem(("estimator",), "must be of a kind that has gradients")])
    optimizer = config.optimizer.build()
    objective, horizons = config.objective.build(), config.horizon.build()
    expert = config.expert and config.expert.build()
    resume = config.resume and config.resume.build()
    mix = build_tasks(config, source)
    estimators, problems = [], []
    for family in mix.families:
        episodes = Episodes(family, optimizer, horizons, config.measure, expert, resume)
        try:
            estimators.append(_estimator(config, episodes, objective))
        except ValueError as error:
            problems.append(_problem(error))
    try:
        parallel = Parallel(config.parallel.backend, config.parallel.devices)
    except ValueError as error:
        raise ConfigError(source, [*dict.fromkeys(problems), _problem(error)]) from None
    if problems:
        raise ConfigError(source, list(dict.fromkeys(problems)))
    try:
        return GradientLearner(
            optimizer=optimizer,
            estimators=tuple(estimators),
            weights=mix.weights,
            num_tasks=config.num_tasks,
            meta_optimizer=_meta_optimizer(config),
            ema=config.ema,
            family_scale=config.family_scale,
            only=config.only,
            parallel=parallel,
        )
    except ValueError as error:
        raise ConfigError(source, [_problem(error)]) from None


def _meta_optimizer(config: Config) -> optax.GradientTransformation:
    tx = config.meta_optimizer.build().transformation(config.steps)
    if config.histograms_every is None:
        return tx
    return record(tx, at=config.histograms_every, keep=RECORDS)


def _estimator(config: Config, episodes: Episodes, objective: Objective) -> GradientEstimator:
    """The config's estimator for one family; evolution strategies perturb only what is trained."""
    rest: dict[str, Any] = {"episodes": episodes, "objective": objective}
    if any(field.name == "only" for field in dataclasses.fields(config.estimator.target)):
        rest["only"] = config.only
    return config.estimator.build(**rest)


def build_curriculum(config: Config, source: str = "config") -> Curriculum:
    """The learners of a run's stages; those that a phase begins with are built, and so checked.

    Raises as `build_learner`; new samples of a phase are drawn when their turn comes.
    """
    parts = stages(config)
    begins = {0, *(phase.at for phase in config.phases)}

    def build(number: int) -> MetaLearner:
        start, of_stage = parts[number]
        return build_learner(of_stage, f"{source}, from meta-step {start}" if start else source)

    ready = {i: build(i) for i, part in enumerate(parts) if part.start in begins}
    return Curriculum(
        [part.start for part in parts],
        lambda number: ready.pop(number) if number in ready else build(number),
    )


def build_start(config: Config, source: str = "config") -> Theta | None:
    """The weights to start from, None for fresh ones.

    Raises ConfigError where they cannot be read or belong to a rule of another shape.
    """
    if config.start_from is None:
        return None
    try:
        _, theta, _ = io.read(config.start_from)
    except io.WeightsError as error:
        raise ConfigError(source, [Problem(("start_from",), str(error))]) from None
    shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), theta)
    fresh = jax.eval_shape(config.optimizer.build().init, jax.random.key(0))
    if shapes != jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), fresh):
        message = f"the weights of {config.start_from} are of another shape than this optimizer's"
        raise ConfigError(source, [Problem(("start_from",), message)])
    return theta


def build_score(config: Config, source: str = "config") -> Callable[[Theta], float]:
    """The score that decides which weights are the best; without evaluation it is constant.

    Reads the data of the suite. Raises ConfigError for an unknown suite, MissingData.
    """
    if config.evaluation is None:
        return lambda theta: float("inf")
    from tasks.suites import SUITES

    chosen = config.evaluation
    try:
        check_name("suite", chosen.suite, SUITES)
    except ValueError as error:
        message = str(error).removeprefix("suite: ")
        raise ConfigError(source, [Problem(("evaluation", "suite"), message)]) from None
    for family in SUITES[chosen.suite].families:
        family.load()
    return partial(
        selection_score,
        config.optimizer.build(),
        suite=chosen.suite,
        seeds=chosen.seeds,
        steps=chosen.steps,
    )


def _problem(error: ValueError) -> Problem:
    """An error that begins with the path of a key."""
    path, colon, message = str(error).partition(": ")
    if colon and path.partition(".")[0] in Config.model_fields:
        return Problem(tuple(path.split(".")), message)
    return Problem((), str(error))


def _build_ppo(config: Config, mix: TaskMix, parallel: Parallel) -> PPOLearner:
    """The learner of a run; mix: the config's task families.

    Raises ValueError that begins with the name of a key.
    """
    settings = config.estimator.build()
    by_name = {family.name: family for family in mix.families}
    buckets = settings.buckets or tuple(Bucket(name) for name in by_name)
    environments = tuple(
        Environment(bucket.name, by_name[bucket.task], bucket.pauses, bucket.steps)
        for bucket in buckets
    )
    updates = config.steps * settings.epochs * settings.minibatches
    return PPOLearner(
        optimizer=config.optimizer.build(),
        environments=environments,
        episodes=tuple(bucket.episodes or config.num_tasks for bucket in buckets),
        settings=settings,
        meta_optimizer=config.meta_optimizer.build().transformation(updates),
        ema=config.ema,
        parallel=parallel,
    )
