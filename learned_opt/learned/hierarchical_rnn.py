"""The hierarchical RNN (Wichrowska et al. 2017, 1703.04813): a GRU per parameter, tensor, problem.

Each scalar's GRU reads gradient averages at several timescales, each tensor's GRU the mean over its
scalars, one global GRU the mean over tensors; upper levels shift the gates of the lower ones. The
states are read out into the paper's normalised direction and drifting log learning rate, or into
corrections to a hand-made rule, the `anchor`.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.anchors.base import NUM_DIRECTIONS, RATE, Plan
from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.anchors.relative_soap import RelativeSoap
from learned_opt.anchors.rule import start_tensors, trained
from learned_opt.base import EvalPoint, Horizon, Params, Theta
from learned_opt.columns import Columns, is_trained, tame
from learned_opt.learned.parts.blocks import over_columns
from learned_opt.learned.parts.cells import affine, bias_gru, init_affine
from learned_opt.learned.parts.corrections import corrected_updates
from learned_opt.learned.parts.features import root
from learned_opt.learned.parts.levels import (
    Levels,
    draw_start,
    init_levels,
    shift_below,
    start_levels,
    step_above,
)
from learned_opt.learned.parts.rates import centre_rates, rate_inputs, start_rates, step_rates
from learned_opt.learned.parts.senses import Senses, sense_inputs, step_senses
from learned_opt.learned.parts.tensor_context import NUM_FEATURES, tensor_context
from learned_opt.naming import check_name


class _Scalars(NamedTuple):
    """The state of the scalars: a row or several of each."""

    hidden: Float[Array, "k n"]
    senses: Senses
    log_rate: Float[Array, " n"] | None


class HierarchicalRNNState(NamedTuple):
    """N scalars, T tensors; float32 whatever the parameters are. Every field changes every step."""

    count: Int[Array, ""]  # updates made so far
    levels: Levels
    senses: Senses
    log_rate: Float[Array, " n"] | None  # running mean; dynamic_output_scale without an anchor
    tensors: tuple[Any, ...]  # of the anchor, for each trained leaf
    point: EvalPoint | None  # attention: the parameters that count


@dataclass(frozen=True)
class HierarchicalRNN:
    """The rule's static choices; names and defaults follow the released training script.

    anchor: what is corrected; None for the paper's output. level_sizes: hidden sizes of the
    parameter, tensor and global GRU, one to three of them. learning_rate: the start where neither a
    key nor a rate is given; None means the geometric middle of init_lr_range, with an anchor its
    0.1. global_input: "mean" over tensors, or "last" to repeat the released code's slip.
    """

    anchor: RelativeAdam | RelativeSoap | None = None
    level_sizes: tuple[int, ...] = (10, 20, 20)
    num_gradient_scales: int = 4
    init_lr_range: tuple[float, float] = (1e-6, 1e-2)
    learning_rate: float | None = None
    max_log_lr: float = 33.0
    learnable_decay: bool = True
    learnable_inp_decay: bool = True
    learnable_rnn_init: bool = True
    dynamic_output_scale: bool = True
    use_attention: bool = False
    use_second_derivatives: bool = True
    zero_init_lr_weights: bool = True
    use_log_means_squared: bool = True
    use_relative_lr: bool = True
    use_problem_lr_mean: bool = True
    use_extreme_indicator: bool = False
    use_lr_shortcut: bool = False
    use_grad_products: bool = True
    use_gradient_shortcut: bool = True
    use_multiple_scale_decays: bool = False
    global_input: Literal["mean", "last"] = "mean"
    cell_scale: float = 0.5
    gate_bias: float = 2.2
    affine_scale: float = 0.5
    readout_scale: float = 0.5
    input_decay_bias: float = 2.2
    scale_decay_bias: float = 3.2
    lr_momentum_logit: float = 3.2

    @staticmethod
    def preset(name: str) -> "HierarchicalRNN":
        """`paper` (8,349 weights), `paper_attention` (8,363) or `nominal`."""
        check_name("preset", name, PRESETS)
        return PRESETS[name]

    def __post_init__(self) -> None:
        sizes = self.level_sizes
        if not 1 <= len(sizes) <= 3 or any(type(k) is not int or k < 1 for k in sizes):
            raise ValueError(f"level_sizes: {sizes!r} must be one to three positive integers")
        check_name("global_input", self.global_input, ("mean", "last"))
        if self.num_gradient_scales < 1:
            raise ValueError(f"num_gradient_scales: {self.num_gradient_scales} must be at least 1")
        low, high = self.init_lr_range
        if not 0.0 < low <= high:
            raise ValueError(f"init_lr_range: {self.init_lr_range} must be 0 < low <= high")
        if self.learning_rate is not None and not self.learning_rate > 0.0:
            raise ValueError(f"learning_rate: {self.learning_rate} must be above 0, or None")
        if self.anchor is not None:
            if len(sizes) < 2:
                raise ValueError(f"level_sizes: {sizes!r}; with an anchor there is a tensor level")
            if self.use_attention:
                raise ValueError("use_attention: with an anchor there is no lookahead point")
        reads_rate = self.use_relative_lr or self.use_extreme_indicator or self.use_lr_shortcut
        if reads_rate and not self._has_rate:
            raise ValueError(
                "use_relative_lr, use_extreme_indicator, use_lr_shortcut: these inputs need "
                "dynamic_output_scale and no anchor"
            )

    @property
    def _has_rate(self) -> bool:
        return self.anchor is None and self.dynamic_output_scale

    @property
    def _points(self) -> tuple[str, ...]:
        """The readouts that the paper's output moves along."""
        return ("direction", "lookahead") if self.use_attention else ("direction",)

    @property
    def _learns_input_decay(self) -> bool:
        return self.learnable_decay and self.learnable_inp_decay and self.num_gradient_scales > 1

    @property
    def _num_inputs(self) -> int:
        scales = self.num_gradient_scales
        rate_inputs = self.use_relative_lr + self.use_extreme_indicator + self.use_lr_shortcut
        products = scales - 1 if self.use_grad_products else 0
        return scales + products + scales * self.use_log_means_squared + rate_inputs

    @property
    def _passes_inputs_up(self) -> bool:
        """Tensors read the mean of their scalars' inputs, unless those are gradients alone."""
        return self._num_inputs > self.num_gradient_scales

    @property
    def _num_tensor_inputs(self) -> int:
        width = self.level_sizes[0] + (self._num_inputs if self._passes_inputs_up else 0)
        return width + (0 if self.anchor is None else NUM_FEATURES)

    def init(self, key: PRNGKeyArray) -> Theta:
        """Fresh weights: a dict of float32 arrays (initial laws of the released code)."""
        levels_key, start_key, input_key, scale_key, readouts_key = jax.random.split(key, 5)
        hidden, readout = self.level_sizes[0], self.readout_scale
        theta = init_levels(
            levels_key,
            self.level_sizes,
            self._num_inputs,
            self._num_tensor_inputs,
            self.cell_scale,
            self.gate_bias,
            self.affine_scale,
        )
        if self.learnable_rnn_init:
            theta["start"] = draw_start(start_key, self.level_sizes)
        if self._learns_input_decay:
            theta["input_decay"] = init_affine(input_key, hidden, 1, readout, self.input_decay_bias)
        if self.learnable_decay:
            theta["scale_decay"] = init_affine(scale_key, hidden, 1, readout, self.scale_decay_bias)
        if self.anchor is None:
            return theta | self._init_rate_readouts(readouts_key)
        return theta | self._init_corrections(readouts_key)

    def _init_rate_readouts(self, key: PRNGKeyArray) -> dict[str, Any]:
        direction_key, rate_key, shortcut_key, lookahead_key = jax.random.split(key, 4)
        hidden, scales = self.level_sizes[0], self.num_gradient_scales
        direction = init_affine(direction_key, hidden, 1, self.readout_scale)["w"]
        theta: dict[str, Any] = {"direction": direction}

        def shortcut(key: PRNGKeyArray) -> Array:
            return (1.0 + 0.1 * scales**0.5 * jax.random.normal(key, (scales, 1))) / scales

        if self.use_gradient_shortcut:
            theta["direction_shortcut"] = shortcut(shortcut_key)
        if self.use_attention:
            # A copy: one buffer under two names could not be donated.
            theta["lookahead"] = jnp.array(direction)
            if self.use_gradient_shortcut:
                theta["lookahead_shortcut"] = shortcut(lookahead_key)
        if self._has_rate:
            rate_scale = 0.0 if self.zero_init_lr_weights else self.readout_scale
            theta["log_rate"] = init_affine(rate_key, hidden, 1, rate_scale)
            theta["log_rate_momentum"] = jnp.float32(self.lr_momentum_logit)
            theta["step_offset"] = jnp.float32(-1.0)
        return theta

    def _init_corrections(self, key: PRNGKeyArray) -> dict[str, Any]:
        tensor_key, param_key = jax.random.split(key)
        outputs = 1 + NUM_DIRECTIONS
        return {
            "tensor_readout": init_affine(tensor_key, self.level_sizes[1], outputs, 0.01),
            "param_readout": init_affine(param_key, self.level_sizes[0], 2, 0.01),
        }

    def opt(
        self,
        theta: Theta,
        horizon: Horizon,
        key: PRNGKeyArray | None = None,
        learning_rate: float | Array | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The rule with weights `theta`; an optax transformation that reads no extra arguments.

        A key draws initial rates from init_lr_range, per scalar and per tensor, at init;
        learning_rate fixes them instead. With an anchor learning_rate stands for its 0.1, and the
        pace is that of a run of `horizon` updates; without one horizon is ignored.
        """

        def init(params: Params) -> Any:
            return self._init_state(theta, params, key, learning_rate)

        def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
            del extra
            like = updates if params is None else params
            columns = Columns.of(like)
            state = state._replace(count=state.count + 1)
            if not columns.sizes:
                return columns.scatter(jnp.zeros(0), like), state
            gradient = tame(columns.gather(updates, like))
            if not self.use_second_derivatives:
                gradient = jax.lax.stop_gradient(gradient)
            if self.anchor is not None:
                if params is None:
                    raise ValueError("params: the anchor sizes its step by them, pass params")
                rate = RATE if self.learning_rate is None else self.learning_rate
                rate = rate if learning_rate is None else learning_rate
                rest = params, horizon, rate, self.anchor
                return self._anchored_step(theta, columns, gradient, state, *rest)
            if self.use_attention and params is None:
                raise ValueError("params: the lookahead point is kept in them, pass params")
            return self._learned_rate_step(theta, columns, gradient, state, like)

        return optax.GradientTransformationExtraArgs(init, update)

    def _init_state(
        self, theta: Theta, params: Params, key: PRNGKeyArray | None, learning_rate: Any
    ) -> HierarchicalRNNState:
        columns = Columns.of(params)
        n = columns.total
        first = (
            theta["start"]
            if self.learnable_rnn_init
            else draw_start(jax.random.key(0), self.level_sizes)
        )
        scales = (self.num_gradient_scales, n)
        rate = self.learning_rate if learning_rate is None and key is None else learning_rate
        return HierarchicalRNNState(
            count=jnp.zeros((), jnp.int32),
            levels=start_levels(first, columns),
            senses=Senses(
                jnp.zeros(scales),
                jnp.zeros(scales),
                jnp.zeros(n) if self._learns_input_decay else None,
                jnp.zeros(n) if self.learnable_decay else None,
            ),
            log_rate=start_rates(columns, self.init_lr_range, self.max_log_lr, key, rate)
            if self._has_rate
            else None,
            tensors=()
            if self.anchor is None
            else start_tensors(self.anchor, params, self.anchor.momenta()),
            point=EvalPoint(jax.tree.map(_own_float32, params)) if self.use_attention else None,
        )

    def _step_scalars(
        self, weights: tuple[Theta, Int[Array, ""]], rows: Any, above: Float[Array, "b n"]
    ) -> tuple[tuple[_Scalars, list[Array]], list[Float[Array, "_ n"]]]:
        """One step of scalars, each by itself.

        weights: theta, and updates made with this one. rows: gradient and state. above: the shift
        of the GRU and, last, the centre of the log rates. Returns the state and what the step is
        made of; then the rows whose means the tensors read, and the squares whose means make the
        step of the paper's output.
        """
        theta, count = weights
        gradient, state = rows
        senses = step_senses(state.senses, gradient, count == 1, self.use_multiple_scale_decays)
        inputs = sense_inputs(senses, self.use_grad_products, self.use_log_means_squared)
        scaled, log_rate = inputs[0], state.log_rate
        if log_rate is not None:
            reads = (self.use_relative_lr, self.use_extreme_indicator, self.use_lr_shortcut)
            inputs += rate_inputs(log_rate[None], above[-1:], *reads)
        hidden = bias_gru(theta["param_cell"], inputs, state.hidden, above[:-1])
        if self._learns_input_decay:
            senses = senses._replace(input_logit=affine(theta["input_decay"], hidden)[0])
        if self.learnable_decay:
            senses = senses._replace(scale_logit=affine(theta["scale_decay"], hidden)[0])
        upward = [hidden, *inputs] if self._passes_inputs_up else [hidden]
        if self.anchor is not None:
            said = list(affine(theta["param_readout"], hidden))
            return (_Scalars(hidden, senses, log_rate), said), upward
        said = [self._direction(theta, name, hidden, scaled) for name in self._points]
        squares = [jnp.square(row)[None] for row in said]
        if log_rate is not None:
            change = affine(theta["log_rate"], hidden)[0]
            momentum = theta["log_rate_momentum"]
            log_rate, proposed = step_rates(log_rate, change, momentum, self.max_log_lr)
            said = [*said, proposed]
        return (_Scalars(hidden, senses, log_rate), said), [*upward, *squares]

    def _direction(
        self, theta: Theta, name: str, hidden: Float[Array, "k n"], scaled: Float[Array, "s n"]
    ) -> Float[Array, " n"]:
        row = theta[name].T @ hidden
        if self.use_gradient_shortcut:
            row = row + theta[f"{name}_shortcut"].T @ scaled
        return row[0]

    def _recur(
        self,
        theta: Theta,
        columns: Columns,
        state: HierarchicalRNNState,
        gradient: Float[Array, " n"],
    ) -> tuple[Any, list[Array], list[Array]]:
        """One step of all scalars: their state, what the step is made of, means over tensors."""
        above = [
            shift_below(theta, state.levels, len(columns.sizes)),
            centre_rates(columns, state.log_rate, self.use_problem_lr_mean),
        ]
        scalars = _Scalars(state.levels.param, state.senses, state.log_rate)
        rows, weights = (gradient, scalars), (theta, state.count)
        (scalars, said), means = over_columns(
            self._step_scalars, columns, weights, rows, jnp.concatenate(above)
        )
        return scalars, said, means

    def _keep(
        self,
        theta: Theta,
        columns: Columns,
        state: HierarchicalRNNState,
        scalars: _Scalars,
        below: list[Array],
    ) -> HierarchicalRNNState:
        """The state after the step of the upper levels, which read `below`."""
        last = columns.last if self.global_input == "last" else None
        hidden, senses, log_rate = scalars
        levels = Levels(hidden, *step_above(theta, state.levels, below, last))
        return state._replace(levels=levels, senses=senses, log_rate=log_rate)

    def _learned_rate_step(
        self,
        theta: Theta,
        columns: Columns,
        gradient: Float[Array, " n"],
        state: HierarchicalRNNState,
        params: Params,
    ) -> tuple[Params, HierarchicalRNNState]:
        """Sections 3.1 to 3.4 of the paper's rule: theta <- theta - exp(log rate + offset) d."""
        scalars, said, means = self._recur(theta, columns, state, gradient)
        kinds = len(self._points)
        below, squares = means[:-kinds], means[-kinds:]
        state = self._keep(theta, columns, state, scalars, below)

        def move(which: int, offset: Any) -> Array:
            """-rate * direction / RMS(direction) of every scalar."""
            row = said[which]
            if self.dynamic_output_scale:
                row = row / columns.spread(root(squares[which]))[0]
            return -jnp.exp(said[-1] + offset) * row if self._has_rate else -row

        step = move(0, theta["step_offset"] if self._has_rate else 0.0)
        if state.point is None:
            return columns.scatter(step, params), state
        point = state.point.params
        attended = optax.apply_updates(point, columns.scatter(move(1, 0.0), point))
        moved = optax.apply_updates(point, columns.scatter(step, point))
        updates = jax.tree.map(_difference, attended, params)
        return updates, state._replace(point=EvalPoint(moved))

    def _anchored_step(
        self,
        theta: Theta,
        columns: Columns,
        gradient: Float[Array, " n"],
        state: HierarchicalRNNState,
        params: Params,
        horizon: Horizon,
        rate: Any,
        anchor: RelativeAdam | RelativeSoap,
    ) -> tuple[Params, HierarchicalRNNState]:
        """`corrected_step`, read out from the tensor's state and from those of its scalars."""
        gradients = columns.apart(gradient, params)
        tensors, directions = anchor.step(state.tensors, gradients, state.count, anchor.momenta())
        scalars, (log_steps, residuals), below = self._recur(theta, columns, state, gradient)
        context = tensor_context(trained(params), directions, state.count, horizon)
        below = [*below, context[:, jnp.array(columns.order)]]
        state = self._keep(theta, columns, state, scalars, below)
        readout = affine(theta["tensor_readout"], jnp.asarray(state.levels.tensor))
        moved = corrected_updates(
            anchor,
            params,
            rate * anchor.pace(Plan(horizon, columns.total), state.count),
            tensors,
            directions,
            list(readout[:, jnp.array(columns.places)].T),
            columns.apart(residuals, params),
            columns.apart(log_steps, params),
        )
        return moved, state._replace(tensors=tuple(tensors))


_PAPER = HierarchicalRNN()
PRESETS: dict[str, HierarchicalRNN] = {
    "paper": _PAPER,
    "paper_attention": replace(_PAPER, use_attention=True),
    "nominal": replace(
        _PAPER, anchor=RelativeAdam(), level_sizes=(8, 12, 8), use_relative_lr=False
    ),
}


def _own_float32(leaf: ArrayLike) -> Array:
    """A float32 copy: the state must not share a buffer with parameters that may be donated."""
    return jnp.array(leaf, jnp.float32 if is_trained(leaf) else jnp.result_type(leaf))


def _difference(to: Array, param: ArrayLike) -> Array:
    return (
        (to - param).astype(jnp.result_type(param)) if is_trained(param) else jnp.zeros_like(param)
    )
