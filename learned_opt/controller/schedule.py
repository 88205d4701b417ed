"""Recorded hyperparameters, replayed without the controller on another model and length."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from learned_opt.controller.recording import Recording, read
from learned_opt.hand.optax_adam import DEBIAS
from learned_opt.hand.spec import HandDesigned
from learned_opt.naming import check_name
from learned_opt.registry import HAND_DESIGNED, check_num_steps, inject

Mode = Literal["absolute", "relative", "peak"]
Form = Literal["linear", "constant"]
Schedule = Callable[[Any], Float[Array, "..."]]  # updates made so far -> value

MODES = ("absolute", "relative", "peak")
FORMS = ("linear", "constant")
COMPLEMENTS = {"one_minus_b1": "b1", "one_minus_b2": "b2"}
PORTABLE = ("learning_rate", "weight_decay", "eps")  # to other rules than the one recorded


def schedules(
    recording: Recording | str | Path,
    num_steps: int,
    mode: Mode = "absolute",
    form: Form = "linear",
    base: Mapping[str, float] | None = None,
) -> dict[str, Schedule]:
    """Every recorded hyperparameter as an optax schedule of a run of `num_steps` updates.

    Pause k of K acts from update k num_steps / K on. mode: the recorded values; `relative`, those
    of `base` times recorded / start; `peak`, for the learning rate times recorded / highest
    instead. Logits are shifted, not multiplied, and 1 - b is at most 1. form: `linear` passes
    through the recorded values at the middle of their segments, linearly in logarithms (or logits);
    `constant` jumps. base: the recorded starts unless given; mode absolute takes none. After
    num_steps the last value stays. Raises ValueError.
    """
    recording = recording if isinstance(recording, Recording) else read(recording)
    check_name("mode", mode, MODES)
    check_name("form", form, FORMS)
    length = check_num_steps(num_steps)
    _check_base(recording, mode, base or {})
    base = dict(recording.start) | dict(base or {})
    found = {}
    for name, values in recording.values.items():
        knots = recording.on_line(name, values)
        if mode == "absolute":
            reference, scale = 0.0, 1.0
        else:
            top = mode == "peak" and name == "learning_rate"
            reference = knots.max() if top else recording.on_line(name, recording.start[name])
            scale = base[name]
        knots = knots - reference
        if name in recording.logit:
            shift = 0.0 if mode == "absolute" else float(recording.on_line(name, scale))
            found[name] = _sigmoid(_curve(knots + shift, length, form))
        else:
            most = 1.0 if name.startswith("one_minus_") else math.inf
            found[name] = _scaled(scale, _curve(knots, length, form), most)
    return found


def _check_base(recording: Recording, mode: Mode, base: Mapping[str, float]) -> None:
    for name, value in base.items():
        check_name("base", name, recording.runs)
        if mode == "absolute":
            raise ValueError(f"base: {name} has none in mode absolute: take relative, or peak")
        if isinstance(value, Array):
            continue
        finite = isinstance(value, Real) and math.isfinite(value)
        share = name in recording.logit
        if not (finite and (0 < value < 1 if share else value >= 0)):
            allowed = "above 0 and below 1" if share else "a finite number, at least 0"
            raise ValueError(f"base.{name}: {value!r} is not allowed; it must be {allowed}")


def _scaled(scale: float, curve: Schedule, most: float) -> Schedule:
    return lambda count: jnp.minimum(scale * jnp.exp(curve(count)), most)


def _sigmoid(curve: Schedule) -> Schedule:
    return lambda count: jax.nn.sigmoid(curve(count))


def _curve(knots: np.ndarray, num_steps: int, form: Form) -> Schedule:
    """knots: one per segment of the run."""
    pauses, values = len(knots), np.asarray(knots, np.float32)
    if form == "constant":
        firsts = np.array([-(-k * num_steps // pauses) for k in range(pauses)], np.int32)
        place = lambda count: jnp.searchsorted(firsts, count, side="right") - 1
        return lambda count: jnp.asarray(values)[place(count)]
    middles = np.asarray((np.arange(pauses) + 0.5) * num_steps / pauses, np.float32)
    return lambda count: jnp.interp(jnp.asarray(count, jnp.float32), middles, values)


class ReplayState(NamedTuple):
    count: Int[Array, ""]  # updates made so far
    inner: Any  # of the optimizer; inner.hyperparams holds the values of the last update


def replay(
    recording: Recording | str | Path,
    num_steps: int,
    optimizer: str | None = None,
    mode: Mode | None = None,
    form: Form = "linear",
    names: Sequence[str] | None = None,
    **hyperparameters: Any,
) -> optax.GradientTransformationExtraArgs:
    """A hand-designed optimizer whose hyperparameters follow a recording.

    optimizer: the recorded one unless named. mode, form: as for `schedules`; the mode is
    `absolute` for the recorded optimizer and `peak` for others, whose learning rate means something
    else. names: what follows the recording; all that is recorded, and of other optimizers learning
    rate, weight decay and eps. hyperparameters: as for `make`; what follows the recording in
    another mode than `absolute` takes them as its base, what does not keeps them. b1 and b2 follow
    only where averages are divided by the weight they have: in `ciao`, and in rules with
    debias="running", which is then chosen. Raises ValueError.
    """
    recording = recording if isinstance(recording, Recording) else read(recording)
    plan, fixed = _plan(recording, num_steps, optimizer, mode, form, names, hyperparameters)
    name = recording.inner if optimizer is None else optimizer
    tx = inject(name, num_steps, **fixed)

    def init(params: Any) -> ReplayState:
        return ReplayState(jnp.zeros((), jnp.int32), tx.init(params))

    def update(updates, state, params=None, **extra):
        kept = state.inner.hyperparams
        now = {n: jnp.asarray(at(state.count), kept[n].dtype) for n, at in plan.items()}
        inner = state.inner._replace(hyperparams=kept | now)
        updates, inner = tx.update(updates, inner, params, **extra)
        return updates, ReplayState(state.count + 1, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def planned(
    recording: Recording | str | Path,
    num_steps: int,
    optimizer: str | None = None,
    mode: Mode | None = None,
    form: Form = "linear",
    names: Sequence[str] | None = None,
    **hyperparameters: Any,
) -> dict[str, Schedule]:
    """The schedules that `replay` follows, by the names that the optimizer has for them."""
    recording = recording if isinstance(recording, Recording) else read(recording)
    return _plan(recording, num_steps, optimizer, mode, form, names, hyperparameters)[0]


def _plan(
    recording: Recording,
    num_steps: int,
    optimizer: str | None,
    mode: Mode | None,
    form: Form,
    names: Sequence[str] | None,
    hyperparameters: Mapping[str, Any],
) -> tuple[dict[str, Schedule], dict[str, Any]]:
    """(schedules by the optimizer's names, hyperparameters that it is made with)."""
    name = recording.inner if optimizer is None else optimizer
    check_name("optimizer", name, HAND_DESIGNED)
    entry, own = HAND_DESIGNED[name], name == recording.inner
    entry.check(hyperparameters)
    mode = ("absolute" if own else "peak") if mode is None else mode
    steered = {recorded: _name_in(entry, recorded) for recorded in recording.runs}
    if names is None:
        names = [n for n in steered if own or (n in PORTABLE and steered[n])]
    for recorded in names:
        check_name("names", recorded, recording.runs)
        if steered[recorded] is None:
            has = ", ".join(entry.controls)
            raise ValueError(f"names: {name} has no {recorded} (it has: {has})")
    if mode == "absolute" and not own and "learning_rate" in names:
        raise ValueError(
            f"mode: absolute is not allowed for {name}; a learning rate of {recording.inner} means "
            "something else there: take peak, or relative"
        )
    for recorded in names if mode == "absolute" else ():
        if steered[recorded] in hyperparameters:
            raise ValueError(
                f"{steered[recorded]}: follows the recording, which in mode absolute has no base: "
                "take relative, or leave it out of names"
            )
    fixed = dict(hyperparameters) | _debias(entry, names, hyperparameters)
    known = {"learning_rate": entry.learning_rate} | entry.defaults | fixed
    base = {}
    for recorded in names:
        value = known[str(steered[recorded])]
        if not isinstance(value, int | float):
            raise ValueError(f"{steered[recorded]}: {value!r} is not allowed; it must be a number")
        base[recorded] = 1.0 - value if steered[recorded] != recorded else value
    base = {} if mode == "absolute" else base
    found = schedules(recording, num_steps, mode, form, base)
    return {str(steered[n]): _in_units(found[n], steered[n] != n) for n in names}, fixed


def _name_in(entry: HandDesigned, recorded: str) -> str | None:
    """What the rule calls a recorded hyperparameter; None where it has none."""
    return next((n for n in (recorded, COMPLEMENTS.get(recorded)) if n in entry.controls), None)


def _debias(entry: HandDesigned, names: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """What makes changing decays right. Raises ValueError where nothing does."""
    decays = [n for n in names if n in COMPLEMENTS and n not in entry.controls]
    if not decays:
        return {}
    chosen = given.get("debias", "running")
    if entry.defaults.get("debias") not in DEBIAS or chosen != "running":
        raise ValueError(
            f"names: {decays[0]} is not allowed for {entry.name}; dividing averages by 1 - b^t is "
            "wrong once b changes: leave it out, or take ciao or a rule with debias='running'"
        )
    return {"debias": "running"}


def _in_units(schedule: Schedule, complement: bool) -> Schedule:
    return (lambda count: 1.0 - schedule(count)) if complement else schedule
