"""A small network per scalar that corrects a hand-made rule, and a scheduler that paces it.

The network reads what Celo2's (2602.19142) does. Where Celo2 makes the whole step of its network,
here the step is that of an anchor, which the network and the scheduler change: with zero readouts
the rule is the anchor, so meta-training starts from a strong optimizer. The scheduler, of one row
per tensor, reads time, the loss and the tensor; with it the rule needs no learning rate.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Complex, Float, Int, PRNGKeyArray

from learned_opt.anchors.base import NUM_DIRECTIONS, RATE, Momenta, Plan, tensor_size
from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.anchors.relative_soap import RelativeSoap
from learned_opt.anchors.rule import gradients_of, start_tensors, trained
from learned_opt.base import Horizon, Params, Theta
from learned_opt.checks import check_above_zero, check_at_least_one
from learned_opt.learned.parts.cells import init_affine, tanh_network
from learned_opt.learned.parts.corrections import (
    corrected_updates,
    length,
    with_agreement,
)
from learned_opt.learned.parts.features import FRACTIONS, FactoredMoment, fraction_features
from learned_opt.learned.parts.local_network import NUM_INPUTS, local_network
from learned_opt.learned.parts.loss_buffer import SCALES, LossBuffer, losses_with
from learned_opt.learned.parts.memory import Memory
from learned_opt.learned.parts.moment_features import FACTORED_DECAYS
from learned_opt.learned.parts.stacks import Stacks, over_tensors

SQUARE_DECAY = 0.99
SLOWEST = 0.999  # momentum
NUM_TENSOR_FEATURES = 7
NUM_SCHEDULER_INPUTS = len(FRACTIONS) + 1 + (SCALES - 1) + NUM_TENSOR_FEATURES


class AnchoredMLPState(NamedTuple):
    """float32 whatever the parameters are."""

    count: Int[Array, ""]  # updates made so far
    held: Int[Array, ""]  # finite losses among those given as value=
    losses: LossBuffer  # of them
    tensors: tuple[Any, ...]  # of the anchor, for each trained leaf
    agreements: Float[Array, " t"]  # of each tensor's gradients with the steps before
    squares: tuple[Float[Array, "_ *_"], ...]  # average of g^2: a stack for each shape
    factored: tuple[FactoredMoment, ...]  # likewise


@dataclass(frozen=True)
class AnchoredMLP:
    """The rule's static choices; 338 weights of the network and 772 of the scheduler.

    anchor: what is corrected. hidden: units of each of the network's two hidden layers.
    scheduler_hidden: of the scheduler's. learning_rate: in place of the anchor's 0.1.
    """

    anchor: RelativeAdam | RelativeSoap = RelativeAdam()
    hidden: int = 8
    scheduler_hidden: int = 16
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_at_least_one(self, "hidden", "scheduler_hidden")
        check_above_zero(self, "learning_rate")

    def init(self, key: PRNGKeyArray) -> Theta:
        """Hidden layers that keep the size of their inputs; readouts near zero.

        Groups: param_hidden and param_readout are the network, scheduler_hidden and
        scheduler_readout the scheduler.
        """
        first, second, readout, *scheduler = jax.random.split(key, 6)
        h, s = self.hidden, self.scheduler_hidden
        return {
            "param_hidden": {
                "first": init_affine(first, NUM_INPUTS, h, 1.0),
                "second": init_affine(second, h, h, 2.0**0.5),
            },
            "param_readout": init_affine(readout, h, 2, 0.01),
            "scheduler_hidden": {
                "first": init_affine(scheduler[0], NUM_SCHEDULER_INPUTS, s, 1.0),
                "second": init_affine(scheduler[1], s, s, 1.0),
            },
            "scheduler_readout": init_affine(scheduler[2], s, 1 + NUM_DIRECTIONS, 0.01),
        }

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The rule with weights `theta`; its update reads value=, the loss, where it is given.

        Without it the scheduler reads zeros in place of the loss's progress. horizon: updates of
        the run. learning_rate: in place of the rule's own.
        """
        del key
        rate = self.learning_rate if learning_rate is None else learning_rate
        rate = RATE if rate is None else rate

        def update(
            updates: Any, state: Any, params: Any = None, value: Any = None, **extra: Any
        ) -> tuple[Any, Any]:
            del extra
            if params is None:
                raise ValueError("params: anchored_mlp reads them, pass params")
            leaves, gradients = trained(params), gradients_of(updates, params)
            held, losses = losses_with(state.held, state.losses, value)
            run = _run_features(state.count, horizon, held, losses)
            count = state.count + 1
            plan = Plan(horizon, sum(leaf.size for leaf in leaves))
            pace = rate * self.anchor.pace(plan, count)
            tensors, directions = self.anchor.step(state.tensors, gradients, count, self._momenta)
            # The slowest average is the network's alone.
            directions = [(*found[:2], found[-1]) for found in directions]
            state = state._replace(
                count=count,
                held=held,
                losses=losses,
                tensors=tuple(tensors),
                agreements=with_agreement(state.agreements, directions, count),
            )
            rows = _inputs(run, leaves, directions, state.agreements)
            # Log step and changes of the mix of each tensor.
            readouts = tanh_network(theta["scheduler_hidden"], theta["scheduler_readout"], rows)
            (residuals, log_steps), state = self._correct(theta, params, gradients, state)
            moved = corrected_updates(
                self.anchor, params, pace, tensors, directions, readouts, residuals, log_steps
            )
            return moved, state

        return optax.GradientTransformationExtraArgs(partial(self._start, horizon), update)

    @property
    def _momenta(self) -> Momenta:
        """Those that are mixed, and a slower one that the network reads."""
        return (*self.anchor.momenta(), SLOWEST)

    def _start(self, horizon: Horizon, params: Params) -> Any:
        tensors = start_tensors(self.anchor, params, self._momenta)
        stacks = Stacks.of(params)
        sizes = list(zip(stacks.counts, stacks.shapes, strict=True))
        return AnchoredMLPState(
            jnp.zeros((), jnp.int32),
            jnp.zeros((), jnp.int32),
            LossBuffer.start(horizon),
            tensors,
            jnp.zeros(len(tensors)),
            tuple(jnp.zeros((count, *shape)) for count, shape in sizes),
            tuple(_zeros(*size) for size in sizes),
        )

    def _correct(
        self, theta: Theta, params: Params, gradients: list[Array], state: AnchoredMLPState
    ) -> tuple[list[list[Array]], AnchoredMLPState]:
        """Residuals and log steps of all scalars, tensor by tensor, and the state with averages."""
        stacks = Stacks.of(params)
        momenta = map(stacks.together, zip(*(tensor.mu for tensor in state.tensors), strict=True))
        momentum = [jnp.stack(same, axis=1) for same in zip(*momenta, strict=True)]
        seen = stacks.gather(params), stacks.together(gradients), momentum
        pairs, squares, factored = [], [], []
        one = partial(_said, theta, state.count)
        for stack in zip(state.squares, state.factored, *seen, strict=True):
            pair, square, factor = over_tensors(one, *stack)
            pairs.append(pair)
            squares.append(square)
            factored.append(factor)
        said = stacks.apart(pairs, params)
        said = [[pair.real for pair in said], [pair.imag for pair in said]]
        return said, state._replace(squares=tuple(squares), factored=tuple(factored))


def _zeros(tensors: int, shape: tuple[int, ...]) -> FactoredMoment:
    one = FactoredMoment.zeros(len(FACTORED_DECAYS), shape)
    return jax.tree.map(lambda x: jnp.zeros((tensors, *x.shape)), one)


def _said(
    theta: Theta,
    count: Int[Array, ""],
    square: Float[Array, "*s"],
    factored: FactoredMoment,
    param: Float[Array, "*s"],
    gradient: Float[Array, "*s"],
    momentum: Float[Array, "3 *s"],
) -> tuple[Complex[Array, "*s"], Float[Array, "*s"], FactoredMoment]:
    """Of the scalars of one tensor: residual + i log step; then its new averages.

    count: updates made with this one. momentum: averages of gradients, with this one in them.
    Gradients are measured by the tensor's own mean square, so no unit of the loss is seen.
    """
    square = SQUARE_DECAY * square + (1.0 - SQUARE_DECAY) * jnp.square(gradient)
    factored = factored.step(jnp.array(FACTORED_DECAYS), gradient)
    mean_square = jnp.mean(square) / (1.0 - SQUARE_DECAY**count)
    scale = jax.lax.rsqrt(jnp.maximum(mean_square, 1e-30))
    memory = Memory(
        scale * momentum,
        scale**2 * square[None],
        jax.tree.map(lambda x: scale**2 * x, factored),
    )
    hidden, readout = theta["param_hidden"], theta["param_readout"]
    layers = [(x["w"], x["b"]) for x in (hidden["first"], hidden["second"], readout)]
    residual, log_step = local_network(layers, scale * gradient, param, memory)
    residual = residual * jax.lax.rsqrt(1.0 + jnp.square(residual))
    # One array of pairs: for two, XLA would go through the network twice.
    return jax.lax.complex(residual, log_step), square, factored


def _run_features(
    count: Int[Array, ""], horizon: Horizon, held: Int[Array, ""], losses: LossBuffer
) -> Float[Array, " f"]:
    """What the scheduler reads of the run: time, its length, the loss's progress."""
    time = fraction_features(jnp.minimum(count, horizon), horizon)
    size = 0.2 * jnp.log(jnp.asarray(horizon, jnp.float32)) - 1.0
    return jnp.concatenate([time, size[None], losses.features(jnp.maximum(held, 1))])


def _inputs(
    run: Float[Array, " r"],
    params: list[Array],
    directions: list[tuple[Array, ...]],
    agreements: Float[Array, " t"],
) -> list[Float[Array, " f"]]:
    """What the scheduler reads for each tensor: the run, its size and shape, its gradients."""
    return [
        jnp.concatenate(
            [
                run,
                jnp.array([0.2 * math.log(param.size) - 1.0, float(param.ndim < 2)]),
                0.5 * jnp.log(tensor_size(param))[None],
                jnp.log(jnp.stack([length(u) for u in us]) + 1e-3),
                agreement[None],
            ]
        )
        for param, us, agreement in zip(params, directions, agreements, strict=True)
    ]
