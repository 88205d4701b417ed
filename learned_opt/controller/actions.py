"""What a controller can do at a pause: a table of relative edits, as data.

Every action has one head of choices, "no change" among them. Edits are relative and runs start from
random values, so a controller must react to what it sees rather than recite a schedule.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

Values = dict[str, Float[Array, ""]]  # hyperparameters by name
Choices = Int[Array, " heads"]  # the index chosen in every head

LARGEST_LOGIT = 16.0  # beyond it float32 rounds 1 - x to 1


class Action(NamedTuple):
    """One controlled hyperparameter.

    kind: an edit multiplies the value, or is added to its logit. lower, upper: bounds after every
    edit, in the value's own units. start: the value that a run begins with by default. noise: of
    the start in training: a factor, or a shift of the logit, drawn log-uniformly, or uniformly,
    between the two.
    """

    name: str
    kind: Literal["factor", "logit"]
    edits: tuple[float, ...]
    lower: float
    upper: float
    start: float
    noise: tuple[float, float]

    @property
    def neutral(self) -> int:
        """The index of the edit that changes nothing."""
        return self.edits.index(1.0 if self.kind == "factor" else 0.0)


Table = tuple[Action, ...]

_RATE_EDITS = (0.5, 0.707, 0.9, 1.0, 1.1, 1.414, 2.0)
_HALVES = (0.5, 1.0, 2.0)
_DECADE, _DOUBLE = (0.1, 10.0), (0.5, 2.0)


def _factor(
    name: str, edits: tuple[float, ...], lower: float, upper: float, start: float, noise: tuple
) -> Action:
    return Action(name, "factor", edits, lower, upper, start, noise)


_DECAY = _factor("weight_decay", _HALVES, 1e-8, 1.0, 1e-2, _DECADE)
_SQUARES = _factor("one_minus_b2", _HALVES, 1e-5, 0.1, 1e-2, _DECADE)
_MOMENTUM = _factor("one_minus_b1", _HALVES, 1e-5, 1.0, 0.1, _DECADE)
_CLIP = Action("clip_ratio", "logit", (-1.0, -0.3, 0.0, 0.3, 1.0), 1e-10, 1.0, 0.8, (-1.0, 1.0))

# As published; where a head had no "no change", it has one here.
FULL: Table = (
    _factor("learning_rate", _RATE_EDITS, 1e-8, 1.0, 1e-3, (1e-2, 1e2)),
    _DECAY,
    _factor("eps", _HALVES, 1e-8, 1.0, 1e-6, _DECADE),
    _SQUARES,
    _MOMENTUM,
    _CLIP,
    _factor("one_minus_clip_decay", _HALVES, 1e-5, 1.0, 1e-2, _DOUBLE),
    _factor("one_minus_norm_decay", (1 / 1.5, 1.0, 1.5), 1e-5, 1.0, 0.05, _DOUBLE),
)
# For short runs: too few pauses to learn more, or to come back from a rate 100 times off.
SMALL: Table = (
    _factor("learning_rate", _RATE_EDITS, 1e-8, 1.0, 1e-3, _DECADE),
    _DECAY,
    _SQUARES,
    _MOMENTUM,
    _CLIP,
)
TABLES: dict[str, Table] = {"full": FULL, "small": SMALL}


def heads(table: Table, registers: int) -> tuple[int, ...]:
    """How many choices every head has: that of the registers, where there are any, comes first."""
    first = (1 + 3 * registers,) if registers else ()
    return (*first, *(len(action.edits) for action in table))


def start_values(table: Table) -> Values:
    """The values that a run begins with by default."""
    return {action.name: jnp.float32(action.start) for action in table}


def draw_values(key: PRNGKeyArray, table: Table, noise: float | Array = 1.0) -> Values:
    """Random values to begin with, within bounds.

    noise: the share of the table's ranges, in logarithms or logits, that is drawn from; 0 gives
    `start_values`.
    """
    drawn = {}
    for action, draw in zip(table, jax.random.uniform(key, (len(table),)), strict=True):
        low, high = jnp.log(jnp.array(action.noise)) if action.kind == "factor" else action.noise
        by = noise * (low + draw * (high - low))
        by = jnp.exp(by) if action.kind == "factor" else by
        drawn[action.name] = _edited(jnp.float32(action.start), by, action)
    return drawn


def settled(choices: Choices, values: Mapping[str, Array], table: Table) -> Choices:
    """The choices with "no change" where `values` lacks the hyperparameter."""
    first = len(choices) - len(table)
    for i, action in enumerate(table):
        if action.name not in values:
            choices = choices.at[first + i].set(action.neutral)
    return choices


def edit(values: Values, choices: Choices, table: Table) -> Values:
    """The values after the edits chosen in the last heads, clamped to their bounds.

    Hyperparameters that `values` lacks stay away. "No change" keeps every bit.
    """
    edited = dict(values)
    for action, choice in zip(table, choices[len(choices) - len(table) :], strict=True):
        if action.name in values:
            by = jnp.array(action.edits, jnp.float32)[choice]
            changed = _edited(values[action.name], by, action)
            same = choice == action.neutral
            edited[action.name] = jnp.where(same, values[action.name], changed)
    return edited


def relative(values: Values, start: Values, table: Table) -> Float[Array, " actions"]:
    """How far every value is from its start: half of the logarithm of the ratio, or the logits'
    difference; 0 for what `values` lacks."""
    found = []
    for action in table:
        if action.name not in values:
            found.append(jnp.float32(0.0))
        elif action.kind == "factor":
            found.append(0.5 * jnp.log(values[action.name] / start[action.name]))
        else:
            found.append(_logit(values[action.name]) - _logit(start[action.name]))
    return jnp.stack(found)


def one_hots(choices: Choices, sizes: Sequence[int]) -> Float[Array, " choices"]:
    """A one-hot for every head, one after the other."""
    return jnp.concatenate([jax.nn.one_hot(c, n) for c, n in zip(choices, sizes, strict=True)])


def _edited(value: Array, by: Array, action: Action) -> Float[Array, ""]:
    if action.kind == "factor":
        return jnp.clip(value * by, action.lower, action.upper)
    largest = jax.nn.sigmoid(jnp.float32(LARGEST_LOGIT))
    edited = jax.nn.sigmoid(jnp.clip(_logit(value) + by, -LARGEST_LOGIT, LARGEST_LOGIT))
    return jnp.clip(edited, action.lower, jnp.minimum(largest, action.upper))


def _logit(x: Array) -> Float[Array, ""]:
    return jnp.clip(jnp.log(x) - jnp.log1p(-x), -LARGEST_LOGIT, LARGEST_LOGIT)
