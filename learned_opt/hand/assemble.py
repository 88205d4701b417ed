"""How an optimizer is put together: a direction, the parts around it, the rate; in one order.

outermost (outside (gradient parts, direction parts (direction), step parts, rate, update parts)).
Parts of one place keep the order they are named in; of wrappers, the first named is the innermost.
A weight decay is a part too: the last of its place, but before the other step parts, so that a
trust ratio measures the step with its decay, as in LARS and LAMB.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from learned_opt.base import Horizon, Params
from learned_opt.hand import schedules
from learned_opt.hand.hyperparameters import check_hyperparameters
from learned_opt.hand.parts.base import FIELDS, Part, Place
from learned_opt.hand.parts.registry import DECAYS, PARTS
from learned_opt.hand.spec import check_given
from learned_opt.naming import check_name

Named = str | Mapping[str, Any]  # a name, or a mapping with it under `name` and fields beside
Transform = Callable[..., optax.GradientTransformation]

TAIL = {"schedule": "constant", "weight_decay": 0.0, "parts": ()}


@dataclass(frozen=True)
class Direction:
    """An optimizer made of a direction: descent along it, with whatever parts are asked for.

    transform: (**hyperparameters) -> transformation that gives u, with the sign of the gradient.
    weight_decay: the default. decay: the kind of a weight decay given as a number.
    """

    transform: Transform
    weight_decay: float = 0.0
    decay: str = "decoupled"

    @property
    def __signature__(self) -> inspect.Signature:
        return _signature(self.transform, TAIL | {"weight_decay": self.weight_decay})

    def __call__(
        self,
        learning_rate: Any,
        horizon: Horizon = 1,
        *,
        schedule: Named = "constant",
        weight_decay: Any = None,
        parts: Sequence[Named] = (),
        **hyperparameters: Any,
    ) -> optax.GradientTransformation:
        decay = self.weight_decay if weight_decay is None else weight_decay
        decays = _decay(decay, self.decay, learning_rate)
        found = [_part(part) for part in parts]
        chosen = [*found, *decays]
        direction = _wrap(chosen, "direction", self.transform(**hyperparameters))
        rate = _scale_by_rate(learning_rate, schedules.parse(schedule, horizon))
        inner = optax.chain(
            *_plain(chosen, "gradient"),
            direction,
            *_plain([*decays, *found], "step"),
            rate,
            *_plain(chosen, "update"),
        )
        return _around(chosen, inner)


@dataclass(frozen=True)
class Whole:
    """An optimizer that makes its own steps; parts fit before it and around it.

    factory: (learning_rate, **hyperparameters) -> transformation. The rate is a number, or with a
    schedule a function of the count of updates.
    """

    factory: Transform

    @property
    def __signature__(self) -> inspect.Signature:
        return _signature(self.factory, {"schedule": "constant", "parts": ()})

    def __call__(
        self,
        learning_rate: Any,
        horizon: Horizon = 1,
        *,
        schedule: Named = "constant",
        parts: Sequence[Named] = (),
        **hyperparameters: Any,
    ) -> optax.GradientTransformation:
        chosen = [_part(part) for part in parts]
        for used in chosen:
            if used.part.place in ("direction", "step"):
                raise ValueError(
                    f"parts: {used.name} is not allowed; this rule makes its own steps, so only "
                    "parts before it and around it fit"
                )
        factor = schedules.parse(schedule, horizon)
        rate = learning_rate if factor is None else lambda count: learning_rate * factor(count)
        inner = optax.chain(
            *_plain(chosen, "gradient"),
            self.factory(rate, **hyperparameters),
            *_plain(chosen, "update"),
        )
        return _around(chosen, inner)


class _Used(NamedTuple):
    name: str
    part: Part
    fields: dict[str, Any]


def _part(given: Named) -> _Used:
    fields = {"name": given} if isinstance(given, str) else dict(given)
    name = str(fields.pop("name", None))
    check_name("parts", name, PARTS)
    return _used(name, f"parts.{name}", PARTS[name], fields)


def _used(name: str, owner: str, part: Part, fields: dict[str, Any]) -> _Used:
    check_hyperparameters(owner, fields, part.defaults, FIELDS | dict(part.ranges))
    return _Used(name, part, fields)


def _decay(given: Any, usual: str, learning_rate: Any) -> list[_Used]:
    """The part that a weight decay stands for: a number, or a mapping with `kind` and fields."""
    if isinstance(given, int | float) and given == 0:
        return []
    fields = dict(given) if isinstance(given, Mapping) else {"value": given}
    kind = str(fields.pop("kind", usual))
    check_name("weight_decay.kind", kind, DECAYS)
    used = _used(kind, "weight_decay", DECAYS[kind], fields)
    if kind == "independent":
        value = fields.get("value", used.part.defaults["value"])
        used.fields["value"] = value / learning_rate
    return [used]


def _plain(chosen: Sequence[_Used], place: Place) -> list[optax.GradientTransformation]:
    return [used.part.make(**used.fields) for used in chosen if used.part.place == place]


def _wrap(
    chosen: Sequence[_Used], place: Place, inner: optax.GradientTransformation
) -> optax.GradientTransformation:
    for used in chosen:
        if used.part.place == place:
            inner = used.part.make(inner, **used.fields)
    return inner


def _around(
    chosen: Sequence[_Used], inner: optax.GradientTransformation
) -> optax.GradientTransformation:
    """The parts that wrap the whole; raises ValueError where an argument of a part is missing."""
    whole = _wrap(chosen, "outermost", _wrap(chosen, "outside", inner))
    tx = optax.with_extra_args_support(whole)

    def update(updates, state, params=None, **extra):
        for used in chosen:
            check_given(used.name, used.part.needs, {"params": params} | extra)
        return tx.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _signature(of: Transform, tail: Mapping[str, Any]) -> inspect.Signature:
    """What the optimizer takes: `of`'s own hyperparameters, and the tail's."""
    own = [p for p in inspect.signature(of).parameters.values() if p.default is not p.empty]
    names = {p.name for p in own}
    rest = {name: value for name, value in tail.items() if name not in names}
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [p.replace(kind=keyword) for p in own]
        + [inspect.Parameter(name, keyword, default=value) for name, value in rest.items()]
    )


class RateState(NamedTuple):
    count: Int[Array, ""]  # updates made so far


def _scale_by_rate(
    learning_rate: Any, factor: Callable[[Any], Array] | None
) -> optax.GradientTransformation:
    """u -> -learning_rate * factor(count) * u, each leaf in its own dtype."""

    def scaled(updates: Params, rate: Any) -> Params:
        return jax.tree.map(lambda u: jnp.asarray(-rate * u, u.dtype), updates)

    if factor is None:
        return optax.stateless(lambda updates, params: scaled(updates, learning_rate))

    def init(params: Params) -> RateState:
        del params
        return RateState(jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        del params
        moved = scaled(updates, learning_rate * factor(state.count))
        return moved, RateState(state.count + 1)

    return optax.GradientTransformation(init, update)
