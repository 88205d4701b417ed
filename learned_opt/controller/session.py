"""One run under a controller, as pure functions: training and deployment share them.

A run of K pauses is: `begin`, then K times `observe`, a policy's choice, `act` and the inner steps
up to the next pause. Where choices come from is not said here, so a policy can be sampled, greedy
or replayed. Everything vmaps over runs; a run full of NaN does not touch its neighbours.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from learned_opt.base import Params
from learned_opt.columns import refuse_complex
from learned_opt.controller.actions import (
    TABLES,
    Choices,
    Table,
    Values,
    edit,
    heads,
    one_hots,
    relative,
    settled,
)
from learned_opt.controller.history import END_WEIGHTS, History
from learned_opt.controller.inner import Ciao, Inner
from learned_opt.controller.leaves import placed, select, trained
from learned_opt.controller.observation import NUMBERS, Readings, layout, observation
from learned_opt.controller.registers import Registers, Snapshot, operate
from learned_opt.controller.statistics import Sums, norm, statistics
from learned_opt.learned.parts.losses import one_number
from learned_opt.naming import check_name

STATISTICS_EVERY = 4  # inner steps
LARGEST_LOSS = 1e4  # and the same times the loss at the start: above both, a run has diverged


@dataclass(frozen=True)
class Control:
    """What a controller sees and may do: static choices.

    actions: a name of TABLES. registers: places to keep the run in. end_weights: of the histories
    that numbers are seen through. sees: the parts of `layout` that are not hidden (as zeros); none
    for all. inner: the optimizer that is driven.
    """

    actions: str = "small"
    registers: int = 1
    end_weights: tuple[float, ...] = END_WEIGHTS
    sees: tuple[str, ...] = ()
    inner: Inner = Ciao()

    def __post_init__(self) -> None:
        check_name("actions", self.actions, TABLES)
        if self.registers < 0:
            raise ValueError(f"registers: {self.registers} is not allowed; it must be at least 0")
        if not self.end_weights or not all(w > 0 for w in self.end_weights):
            raise ValueError(
                f"end_weights: {self.end_weights} is not allowed; there must be some, above 0"
            )
        for part in self.sees:
            check_name("sees", part, self.layout)

    @property
    def table(self) -> Table:
        return TABLES[self.actions]

    @cached_property
    def heads(self) -> tuple[int, ...]:
        """Choices of every head; that of the registers, where there are any, comes first."""
        return heads(self.table, self.registers)

    @cached_property
    def layout(self) -> dict[str, slice]:
        """The parts of an observation by name."""
        return layout(self.table, self.registers, self.end_weights)

    def show(self, observation: Float[Array, " features"]) -> Float[Array, " features"]:
        """The observation with zeros where it is hidden."""
        if not self.sees:
            return observation
        shown = jnp.zeros_like(observation)
        for part in self.sees:
            shown = shown.at[self.layout[part]].set(observation[self.layout[part]])
        return shown

    @property
    def features(self) -> int:
        """The length of an observation."""
        return self.layout["relative"].stop


class Session(NamedTuple):
    """The state of one run beside its parameters; float32 whatever they are."""

    inner: Any  # state of the optimizer that is driven
    values: Values  # hyperparameters in force
    start: Values  # hyperparameters at the start
    registers: Registers
    anchor: Snapshot  # the run as the last pause left it
    sums: Sums  # of statistics since the last pause
    history: History
    chosen: Float[Array, "*batch choices"]  # one-hots of the last choices
    start_loss: Float[Array, "*batch"]  # validation loss at the first pause
    eval_loss: Float[Array, "*batch"]  # as given at the last pause
    diverged: Bool[Array, "*batch"]  # what the last pause found: `act` then goes back to `anchor`
    restored: Bool[Array, "*batch"]  # whether the last `act` replaced the parameters
    pause: Int[Array, "*batch"]  # choices made so far
    pauses: Int[Array, "*batch"]  # choices in all
    step: Int[Array, "*batch"]  # inner steps since the last pause


def begin(
    control: Control, params: Params, values: Values, pauses: int | Int[Array, ""]
) -> Session:
    """A run before its first pause.

    values: the hyperparameters to begin with, by names of the table; those left out are not
    controlled and keep the inner optimizer's defaults. pauses: choices there will be, at least 1.
    Raises ValueError on names that the table does not have and on complex leaves.
    """
    refuse_complex(params)
    known = [action.name for action in control.table]
    for name in values:
        check_name(f"hyperparameters of the actions {control.actions!r}", name, known)
    values = {name: jnp.array(value, jnp.float32) for name, value in values.items()}
    inner = control.inner.init(params)
    nan = lambda: jnp.full((), jnp.nan, jnp.float32)

    def snapshot() -> Snapshot:
        state = jax.tree.map(jnp.copy, inner)
        return Snapshot(trained(params, params), state, nan(), jnp.zeros(()))

    return Session(
        inner=inner,
        values=values,
        start=jax.tree.map(jnp.copy, values),
        registers=tuple(snapshot() for _ in range(control.registers)),
        anchor=snapshot(),
        sums=Sums.start(),
        history=History.start(NUMBERS, control.end_weights),
        chosen=jnp.zeros(sum(control.heads)),
        start_loss=nan(),
        eval_loss=nan(),
        diverged=jnp.zeros((), bool),
        restored=jnp.zeros((), bool),
        pause=jnp.zeros((), jnp.int32),
        pauses=jnp.array(pauses, jnp.int32),
        step=jnp.zeros((), jnp.int32),
    )


def inner_step(
    control: Control,
    session: Session,
    gradients: Params,
    params: Params,
    measured: bool | None = None,
    **extra: Any,
) -> tuple[Params, Session]:
    """One step of the inner optimizer: (updates, session).

    measured: whether statistics are taken; None takes them on the first of every four steps since
    the last pause, by a branch in the program. extra: for inner optimizers that read more, `value`
    for instance.
    """
    updates, inner, quantities = control.inner.step(
        gradients, session.inner, params, session.values, extra
    )

    def measure(sums: Sums) -> Sums:
        after = optax.apply_updates(params, updates)
        eps = session.values.get("eps", control.inner.eps)
        return sums.adding(statistics(quantities, params, after, eps))

    if measured is None:
        due = session.step % STATISTICS_EVERY == 0
        sums = jax.lax.cond(due, measure, lambda sums: sums, session.sums)
    else:
        sums = measure(session.sums) if measured else session.sums
    return updates, session._replace(inner=inner, sums=sums, step=session.step + 1)


def observe(
    control: Control,
    session: Session,
    params: Params,
    train_loss: float | Array,
    eval_loss: float | Array,
) -> tuple[Session, Float[Array, " features"]]:
    """(session, observation) at a pause.

    train_loss: the mean over the steps since the last pause; at the first, that of the start.
    eval_loss: on held-out data, now. Either may be NaN or infinite; an `eval_loss` that is, or that
    is above 1e4 and 1e4 times that of the start, is a run that diverged.
    """
    train, evaluated = one_number("train_loss", train_loss), one_number("eval_loss", eval_loss)
    first = session.pause == 0
    # What is kept from the start is worth the loss at the start.
    at_start = lambda kept: kept._replace(eval_loss=jnp.where(first, evaluated, kept.eval_loss))
    start_loss = jnp.where(first, evaluated, session.start_loss)
    registers = tuple(at_start(register) for register in session.registers)
    anchor = at_start(session.anchor)
    now, before = trained(params, params), anchor.params
    size, size_before = norm(now), norm(before)
    moved = norm([a - b for a, b in zip(now, before, strict=True)])
    outer = lambda x: jnp.where(first, jnp.nan, jnp.log(x))
    readings = Readings(
        progress=_progress(session),
        statistics=session.sums.mean(),
        chosen=session.chosen,
        update_ratio=outer(moved / size),
        norm_ratio=outer(size / size_before),
        train_loss=train,
        eval_loss=evaluated,
        register_losses=_stack([register.eval_loss for register in registers]),
        register_progress=_stack([register.progress for register in registers]),
        relative=relative(session.values, session.start, control.table),
    )
    history, seen = observation(readings, session.history, control.end_weights)
    session = session._replace(
        registers=registers,
        anchor=anchor,
        sums=Sums.start(),
        history=history,
        start_loss=start_loss,
        eval_loss=evaluated,
        diverged=~(evaluated <= LARGEST_LOSS * jnp.fmax(1.0, jnp.abs(start_loss)))
        | jnp.isinf(evaluated),
    )
    return session, control.show(seen)


def act(
    control: Control, session: Session, params: Params, choices: Choices
) -> tuple[Params, Session]:
    """(parameters, session) after the choices of a pause: first the registers', then the edits.

    A run that diverged first goes back to where the last pause left it. Hyperparameters, time and
    what was seen are never restored. choices: an index for every one of `control.heads`.
    """
    choices = settled(choices, session.values, control.table)
    here = Snapshot(trained(params, params), session.inner, session.eval_loss, _progress(session))
    here = select(session.diverged, session.anchor, here)
    op = choices[0] if control.registers else jnp.zeros((), jnp.int32)
    here, registers, moved = operate(op, here, session.registers)
    # At the first pause every place is the start.
    restored = (moved | session.diverged) & (session.pause > 0)
    session = session._replace(
        inner=here.inner,
        values=edit(session.values, choices, control.table),
        registers=registers,
        anchor=here,
        chosen=one_hots(choices, control.heads),
        restored=restored,
        pause=session.pause + 1,
        step=jnp.zeros_like(session.step),
    )
    return placed(here.params, params, restored), session


def _progress(session: Session) -> Float[Array, ""]:
    return jnp.minimum(session.pause / session.pauses, 1.0)


def _stack(numbers: list[Array]) -> Float[Array, " n"]:
    return jnp.stack(numbers) if numbers else jnp.zeros(0)
