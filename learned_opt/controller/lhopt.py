"""LHOPT (Almeida et al. 2021, 2106.00958): a policy that edits CIAO's hyperparameters.

A few dozen times a run, however long that is, the policy reads statistics without units and
chooses relative edits, or goes back to where the run has been. Between pauses CIAO runs by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from learned_opt.base import Horizon, Params, Theta
from learned_opt.checks import check_at_least_one
from learned_opt.columns import is_trained
from learned_opt.controller.actions import Choices, draw_values, start_values
from learned_opt.controller.leaves import placed
from learned_opt.controller.network import Network, Normaliser, Recurrent
from learned_opt.controller.session import Control, Session, act, begin, inner_step, observe
from learned_opt.learned.parts.loss_buffer import needed_loss
from learned_opt.learned.parts.losses import one_number


class LHOPTState(NamedTuple):
    """float32 whatever the parameters are."""

    count: Int[Array, ""]  # updates made so far
    session: Session
    recurrent: Recurrent
    losses: Float[Array, ""]  # sum over the inner steps since the last pause
    eval_loss: Float[Array, ""]  # the last validation loss since then
    has_eval_loss: Bool[Array, ""]  # whether there was one


@dataclass(frozen=True)
class LHOPT:
    """The controller's static choices.

    actions: the table of edits, `full` (as published) or `small`. registers: places to keep the
    run in, each as large as the parameters and the state of CIAO. end_weights: of the histories
    that numbers are seen through. sees: the parts of the observation that are not hidden, () for
    all: with `[progress]` it can only recite a schedule. pauses: in a run, at most; how many is no
    part of the weights. dense, lstm, trunk: units of the policy. layer_norm: of its gates.
    """

    reads_eval_value: ClassVar[bool] = True
    needs_num_steps: ClassVar[bool] = True

    actions: str = "small"
    registers: int = 1
    end_weights: tuple[float, ...] = (1.25, 5.0, 20.0)
    sees: tuple[str, ...] = ()
    pauses: int = 32
    dense: int = 64
    lstm: int = 64
    trunk: int = 64
    layer_norm: bool = False

    def __post_init__(self) -> None:
        check_at_least_one(self, "pauses", "dense", "lstm", "trunk")
        _ = self.control  # raises for what is not allowed

    @property
    def control(self) -> Control:
        """What it sees and may do."""
        return Control(self.actions, self.registers, self.end_weights, self.sees)

    @property
    def policy(self) -> Network:
        """From an observation to the logits of every head."""
        return self._network(self.control.features, self.control.heads, 0.01)

    def critic(self, more: int) -> Network:
        """A network of the policy's shape that values an observation and `more` inputs."""
        return self._network(self.control.features + more, (1,), 0.1)

    def init(self, key: PRNGKeyArray) -> Theta:
        """Fresh weights of the policy, nearly uniform, and a normaliser that does nothing."""
        start = Normaliser.start(self.control.features)
        return {"normaliser": start, "policy": self.policy.init(key)}

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """CIAO under the greedy policy, which pauses every `max(1, horizon // pauses)` updates.

        `update` reads `value`, the training loss, and `eval_value`, a validation loss of which the
        last one since the pause before counts; where there was none, the mean training loss stands
        in for it. Going back to another place is a step of its own, which replaces an update. After
        the horizon the last values hold. Without `key` a run begins with the table's values.
        """
        table = self.control.table
        values = start_values(table) if key is None else draw_values(key, table)
        if learning_rate is not None:
            values["learning_rate"] = jnp.asarray(learning_rate, jnp.float32)
        pauses = jnp.minimum(self.pauses, horizon)
        every = jnp.maximum(1, horizon // self.pauses)

        def init(params: Params) -> LHOPTState:
            session = begin(self.control, params, values, pauses)
            return LHOPTState(
                count=jnp.zeros((), jnp.int32),
                session=session,
                recurrent=self.policy.initial_state(),
                losses=jnp.zeros(()),
                eval_loss=jnp.zeros(()),
                has_eval_loss=jnp.zeros((), bool),
            )

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            if params is None:
                raise ValueError("params: lhopt reads them, pass params")
            loss = needed_loss("lhopt", extra)
            state = _with_eval_loss(state, extra.get("eval_value"))
            due = (state.count % every == 0) & (state.count // every < pauses)
            state = _once(due, lambda s: self._pause(theta, s, params, loss), state)
            session = state.session

            # Only what a step changes leaves the branches: what leaves them is copied.
            def go_back() -> tuple[Params, Any]:
                there = placed(session.anchor.params, params, jnp.array(True))
                kept = session.inner, session.sums, session.step, state.losses
                return jax.tree.map(_difference, there, params), kept

            def go_on() -> tuple[Params, Any]:
                moved, after = inner_step(self.control, session, updates, params)
                return moved, (after.inner, after.sums, after.step, state.losses + loss)

            moved, kept = jax.lax.cond(due & session.restored, go_back, go_on)
            inner, sums, step, losses = kept
            session = session._replace(inner=inner, sums=sums, step=step)
            return moved, state._replace(count=state.count + 1, session=session, losses=losses)

        return optax.GradientTransformationExtraArgs(init, update)

    def pause(
        self,
        theta: Theta,
        session: Session,
        recurrent: Recurrent,
        params: Params,
        train_loss: float | Array,
        eval_loss: float | Array,
        control: Control | None = None,
    ) -> tuple[Params, Session, Recurrent]:
        """(parameters, session, state of the policy) after a pause with the likeliest choices.

        control: takes the place of the rule's own, to drive another optimizer than CIAO.
        """
        control = self.control if control is None else control
        session, seen = observe(control, session, params, train_loss, eval_loss)
        recurrent, choices = self.likeliest(theta, recurrent, seen)
        params, session = act(control, session, params, choices)
        return params, session, recurrent

    def likeliest(
        self, theta: Theta, recurrent: Recurrent, seen: Float[Array, " features"]
    ) -> tuple[Recurrent, Choices]:
        """(state of the policy, its likeliest choices) after an observation."""
        recurrent, logits = self.policy.step(theta["policy"], recurrent, theta["normaliser"](seen))
        return recurrent, self.policy.largest(logits)

    def _pause(self, theta: Theta, state: LHOPTState, params: Params, loss: Array) -> LHOPTState:
        session = state.session
        steps = jnp.maximum(session.step, 1)
        train = jnp.where(session.step > 0, state.losses / steps, loss)
        evaluated = jnp.where(state.has_eval_loss, state.eval_loss, train)
        _, session, recurrent = self.pause(
            theta, session, state.recurrent, params, train, evaluated
        )
        return state._replace(
            session=session,
            recurrent=recurrent,
            losses=jnp.zeros_like(state.losses),
            has_eval_loss=jnp.zeros_like(state.has_eval_loss),
        )

    def _network(self, inputs: int, outputs: tuple[int, ...], last: float) -> Network:
        units = self.dense, self.lstm, self.trunk
        return Network(inputs, outputs, *units, layer_norm=self.layer_norm, last=last)


def _once(due: Array, change: Callable[[Any], Any], state: Any) -> Any:
    """`change(state)` if `due`; a loop leaves large states where they are, a cond copies them."""
    waiting = lambda carry: carry[0]
    body = lambda carry: (jnp.zeros_like(due), change(carry[1]))
    return jax.lax.while_loop(waiting, body, (due, state))[1]


def _with_eval_loss(state: LHOPTState, eval_value: Any) -> LHOPTState:
    if eval_value is None:
        return state
    new = one_number("eval_value", eval_value)
    none = jnp.isnan(new)
    return state._replace(
        eval_loss=jnp.where(none, state.eval_loss, new), has_eval_loss=state.has_eval_loss | ~none
    )


def _difference(there: Array, param: Array) -> Array:
    return there - param if is_trained(param) else jnp.zeros_like(param)


PRESETS = {
    "small": LHOPT(),
    "paper": LHOPT(
        actions="full",
        registers=3,
        end_weights=(1.25, 2.5, 5.0, 10.0, 20.0),
        dense=256,
        lstm=256,
        trunk=256,
        layer_norm=True,
    ),
}
