"""Every optimizer by name: learned rules and hand-designed ones side by side."""

import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import optax

from learned_opt.base import DEFAULT_NUM_STEPS
from learned_opt.compiled import compiled
from learned_opt.controller.lhopt import LHOPT
from learned_opt.hand.groups import grouped
from learned_opt.hand.paths import check_pattern
from learned_opt.hand.spec import HandDesigned
from learned_opt.hand.steering import inner_numbers, with_inner
from learned_opt.hand.table import HAND_DESIGNED
from learned_opt.learned.anchored_mlp import AnchoredMLP
from learned_opt.learned.anchored_soap import AnchoredSoap
from learned_opt.learned.celo import Celo
from learned_opt.learned.celo2 import Celo2
from learned_opt.learned.celo_adam import CeloAdam
from learned_opt.learned.coordinatewise_lstm import CoordinatewiseLSTM
from learned_opt.learned.coordinatewise_rnn import CoordinatewiseRNN
from learned_opt.learned.feed_forward import FeedForward
from learned_opt.learned.hierarchical_rnn import HierarchicalRNN
from learned_opt.learned.mlp import MLP
from learned_opt.learned.rnnprop import RNNprop
from learned_opt.learned.small_fc import SmallFC
from learned_opt.learned.star import Star
from learned_opt.learned.tensor_lstm import TensorLSTM
from learned_opt.learned.velo import Velo
from learned_opt.naming import check_name

MOST_STEPS = 2**31 - 1  # of an int32

LEARNED: dict[str, type] = {
    "anchored_mlp": AnchoredMLP,
    "anchored_soap": AnchoredSoap,
    "celo": Celo,
    "celo_adam": CeloAdam,
    "celo2": Celo2,
    "coordinatewise_lstm": CoordinatewiseLSTM,
    "coordinatewise_rnn": CoordinatewiseRNN,
    "feed_forward": FeedForward,
    "hierarchical_rnn": HierarchicalRNN,
    "lhopt": LHOPT,
    "mlp": MLP,
    "rnnprop": RNNprop,
    "small_fc": SmallFC,
    "star": Star,
    "tensor_lstm": TensorLSTM,
    "velo": Velo,
}


def check_num_steps(num_steps: int | None) -> int:
    """The length of the training run a rule plans for, an integer of at least 1; None is 10,000."""
    return DEFAULT_NUM_STEPS if num_steps is None else check_count("num_steps", num_steps)


def _horizon(entry: HandDesigned, num_steps: int | None) -> int | None:
    """As `check_num_steps`, but None for a rule that has a form for it."""
    return None if num_steps is None and entry.anytime else check_num_steps(num_steps)


def check_count(name: str, count: Any) -> int:
    """Raises ValueError in the name of an argument that is no integer from 1 to 2^31 - 1."""
    if not isinstance(count, Integral) or isinstance(count, bool) or int(count) < 1:
        raise ValueError(f"{name}: {count!r} is not allowed; it must be an integer, at least 1")
    if int(count) > MOST_STEPS:
        raise ValueError(f"{name}: {count} is not allowed; updates are counted to {MOST_STEPS}")
    return int(count)


def check_learning_rate(rate: float | None) -> None:
    """Raises ValueError for a starting rate that is neither None nor a finite number above 0."""
    number = isinstance(rate, Real) and not isinstance(rate, bool)
    if rate is not None and not (number and math.isfinite(rate) and rate > 0):
        raise ValueError(
            f"learning_rate: {rate!r} is not allowed; it must be a finite number above 0"
        )


def check_weight_decay(weight_decay: float | None) -> None:
    """Raises ValueError for a weight decay that is neither None nor a finite number from 0 on."""
    number = isinstance(weight_decay, Real) and not isinstance(weight_decay, bool)
    if weight_decay is not None and not (
        number and math.isfinite(weight_decay) and weight_decay >= 0
    ):
        raise ValueError(
            f"weight_decay: {weight_decay!r} is not allowed; it must be a finite number, at least 0"
        )


def make(
    name: str,
    num_steps: int | None = None,
    groups: Sequence[Mapping[str, Any]] = (),
    **hyperparameters: Any,
) -> optax.GradientTransformationExtraArgs:
    """A hand-designed optimizer as an optax transformation.

    name: one of HAND_DESIGNED. num_steps: length of the training run, for schedules, at least 1
    (None: 10,000, or the anytime form of a rule that has one). hyperparameters: in optax's
    spelling, `learning_rate` among them; beside them, for most rules, schedule: a name of
    hand.schedules.SCHEDULES or a mapping with it; weight_decay: a number or {kind, value, mask};
    parts: names of hand.parts.registry.PARTS, or mappings with fields. groups: mappings with
    `match`, a regular expression searched in a parameter's path, `name` and hyperparameters; a
    parameter goes to the first that matches. Raises ValueError.
    """
    check_name("optimizer", name, HAND_DESIGNED)
    entry = HAND_DESIGNED[name]
    entry.check(hyperparameters)
    horizon = _horizon(entry, num_steps)
    hyperparameters = {"learning_rate": entry.learning_rate} | hyperparameters
    rest = entry.build(horizon=horizon, **hyperparameters)
    return compiled(grouped(rest, [_group(g, horizon) for g in groups]) if groups else rest)


def inject(
    name: str, num_steps: int | None = None, **hyperparameters: Any
) -> optax.GradientTransformationExtraArgs:
    """As `make`, with the continuous hyperparameters in the state, where they can be rewritten.

    state.hyperparams[...] holds `learning_rate` and every other of `HandDesigned.controls`; for a
    kind of weight decay its value, for parts what Part.controls has, as `trust_ratio_eps`.
    """
    check_name("optimizer", name, HAND_DESIGNED)
    entry = HAND_DESIGNED[name]
    entry.check(hyperparameters)
    horizon = _horizon(entry, num_steps)

    values = {"learning_rate": entry.learning_rate} | entry.defaults | hyperparameters
    entry.build(horizon=horizon, **values)  # raises for what is not allowed
    steered = {n: values[n] for n in entry.controls if isinstance(values[n], float | int)}
    inner = inner_numbers(values)
    fixed = {n: value for n, value in values.items() if n not in steered}

    def build(**given: Any) -> optax.GradientTransformationExtraArgs:
        numbers = {n: given.pop(n) for n in inner}
        chosen = with_inner(fixed, numbers) if numbers else fixed
        return entry.build(horizon=horizon, **chosen, **given)

    steered |= inner
    signature = inspect.Signature(
        [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in steered]
    )
    factory = functools.wraps(build)(lambda **given: build(**given))
    factory.__signature__ = signature  # type: ignore[attr-defined]
    return compiled(optax.inject_hyperparams(factory)(**steered))


def _group(
    group: Mapping[str, Any], horizon: int | None
) -> tuple[str, optax.GradientTransformation]:
    fields = dict(group)
    pattern = check_pattern("groups.match", fields.pop("match", None))
    return pattern, make(str(fields.pop("name", None)), horizon, **fields)
