"""One meta-step: tasks to gradients, gradients to a mean, the mean to new theta."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from learned_opt.base import LearnedOptimizer, Theta, eval_params
from learned_opt.naming import check_name
from meta_train.estimators.base import EstimatorState, GradientEstimator, Metrics
from meta_train.learners.base import load_families
from meta_train.learners.family_mean import FamilyScale, family_factor, family_gradient, mean_metric
from meta_train.parallel import AXIS, TASKS, Parallel
from tasks.base import Data


class MetaTrainState(NamedTuple):
    """Everything a run needs to go on: with the same config it continues the same run."""

    step: Int[Array, ""]  # meta-steps made
    theta: Theta
    theta_average: Theta  # moving average of theta, or of the meta-optimizer's point to evaluate
    meta_opt_state: Any
    norms: Float[Array, " families"]  # running root mean square of each family's gradient norm
    est_states: tuple[EstimatorState, ...]  # per family; leading axes: shard, task
    key: PRNGKeyArray  # never changes; step and task are folded in


class _Shared(NamedTuple):
    step: Array
    theta: Theta
    theta_average: Theta
    meta_opt_state: Any
    norms: Array
    key: PRNGKeyArray


@dataclass(frozen=True)
class GradientLearner:
    """Meta-training by gradient estimates, averaged over tasks, families and devices.

    estimators and weights: one per task family. num_tasks: tasks of each family, a multiple of the
    number of devices. ema: decay of the moving average of theta, in [0, 1). family_scale: what the
    mean gradient of a family is brought to before it is weighed (family_mean.py). only: the
    top-level groups of theta that are updated, all where empty.
    """

    optimizer: LearnedOptimizer
    estimators: tuple[GradientEstimator, ...]
    weights: tuple[float, ...]
    num_tasks: int
    meta_optimizer: optax.GradientTransformation
    ema: float = 0.99
    family_scale: FamilyScale = "unit_norm"
    only: tuple[str, ...] = ()
    parallel: Parallel = field(default_factory=Parallel)

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.estimators):
            raise ValueError(
                f"weights: {len(self.weights)} given for {len(self.estimators)} task families"
            )
        groups = jax.eval_shape(self.optimizer.init, jax.random.key(0))
        for name in self.only:
            check_name("only", name, groups)
        devices = self.parallel.devices
        if self.num_tasks < 1 or self.num_tasks % devices:
            above = max(1, -(-self.num_tasks // devices)) * devices
            raise ValueError(
                f"num_tasks: {self.num_tasks} does not divide over {devices} devices; the nearest "
                f"that does is {above}"
            )

    @property
    def inner_steps(self) -> int:
        return self.num_tasks * sum(estimator.inner_steps for estimator in self.estimators)

    def load(self) -> tuple[Data, ...]:
        """Every family's arrays, on every device; what families share lies there once.

        Raises MissingData.
        """
        families = [estimator.episodes.family for estimator in self.estimators]
        return load_families(families, self.parallel)

    def init(
        self, key: PRNGKeyArray, data: tuple[Data, ...], theta: Theta | None = None
    ) -> MetaTrainState:
        """A fresh state in its final placement; equal for every number of devices.

        theta: the weights to start from, fresh ones where it is None.
        """
        theta_key, tasks_key, run_key = jax.random.split(key, 3)
        if theta is None:
            theta = self.optimizer.init(theta_key)
        weights: Theta = jax.tree.map(jnp.array, theta)
        shared = _Shared(
            step=jnp.zeros((), jnp.int32),
            theta=weights,
            theta_average=weights,
            meta_opt_state=self.meta_optimizer.init(weights),
            norms=jnp.zeros(len(self.estimators)),
            key=run_key,
        )
        return self._with_tasks(self.parallel.replicate(shared), data, tasks_key)

    def take_over(self, state: MetaTrainState, data: tuple[Data, ...]) -> MetaTrainState:
        """The state another learner of the same weights has led here, its tasks begun afresh."""
        shared, _ = _part(state)
        shared = shared._replace(norms=jnp.zeros(len(self.estimators)))
        # A meta-step folds in the numbers of its families; this is the number after the last.
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), len(self.estimators))
        return self._with_tasks(self.parallel.replicate(shared), data, key)

    def _with_tasks(
        self, shared: _Shared, data: tuple[Data, ...], key: PRNGKeyArray
    ) -> MetaTrainState:
        key = self.parallel.replicate(key)
        est_states = self._begun(shared.theta, data, key, shared.step)
        return _join(shared, self.parallel.shard(est_states))

    @cached_property
    def _begun(self):
        @jax.jit
        def begun(
            theta: Theta, data: tuple[Data, ...], key: PRNGKeyArray, step: Array
        ) -> tuple[EstimatorState, ...]:
            states = []
            for i, (estimator, arrays) in enumerate(zip(self.estimators, data, strict=True)):
                keys = jax.vmap(jax.random.fold_in, (None, 0))(
                    jax.random.fold_in(key, i), jnp.arange(self.num_tasks)
                )
                init = jax.vmap(estimator.init, (None, None, 0, None))
                states.append(
                    _cut(init(theta, arrays, keys, step), self.parallel.devices, self.num_tasks)
                )
            return tuple(states)

        return begun

    def place(self, state: MetaTrainState) -> MetaTrainState:
        """Puts every array where `step` wants it, so that it compiles once."""
        shared, est_states = _part(state)
        return _join(self.parallel.replicate(shared), self.parallel.shard(est_states))

    def step(self, state: MetaTrainState, data: tuple[Data, ...]) -> tuple[MetaTrainState, Metrics]:
        """One meta-step; `state` is used up. Metrics are scalars, equal on all devices."""
        shared, est_states = _part(state)
        shared, est_states, metrics = self._compiled(shared, est_states, data)
        return _join(shared, est_states), metrics

    def prepare(self, data: tuple[Data, ...]) -> None:
        """Compiles all that `take_over` and `step` run, so that neither has to wait."""
        shared, est_states = _part(self.init(jax.random.key(0), data))
        # What a cached property has found lies among the attributes.
        vars(self)["_compiled"] = self._compiled.lower(shared, est_states, data).compile()

    def theta(self, state: MetaTrainState) -> Theta:
        """The averaged weights."""
        return state.theta_average

    @cached_property
    def _compiled(self) -> Any:
        return self.parallel.compile(self._body)

    def _body(
        self, shared: _Shared, est_states: tuple[EstimatorState, ...], data: tuple[Data, ...]
    ) -> tuple[_Shared, tuple[EstimatorState, ...], Metrics]:
        key = jax.random.fold_in(shared.key, shared.step)
        local = self.num_tasks // self.parallel.devices
        tasks = jax.lax.axis_index(AXIS) * local + jnp.arange(local)
        total, noise = jax.tree.map(jnp.zeros_like, shared.theta), jnp.zeros(())
        metrics: Metrics = {}
        advanced, norms, usable = [], [], []
        for i, estimator in enumerate(self.estimators):
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, i), tasks)
            estimate = jax.vmap(estimator.estimate, (None, None, 0, 0, None), axis_name=TASKS)
            gradients, est_state, seen = estimate(
                shared.theta, data[i], est_states[i], keys, shared.step
            )
            advanced.append(est_state)
            family = family_gradient(_unless_lost(self._trained(gradients), seen))
            factor, rms = family_factor(self.family_scale, family, shared.norms[i])
            norms.append(rms)
            usable.append(family.usable)
            share = factor * self.weights[i] / sum(self.weights)
            total = jax.tree.map(lambda t, g, s=share: t + s * g, total, family.mean)
            known = family.usable & (family.accepted > 1.0)
            noise = noise + jnp.where(known, jnp.square(share) * family.noise, 0.0)
            name = estimator.episodes.family.name
            metrics[f"tasks/{name}/grad_norm"] = family.norm
            metrics[f"tasks/{name}/grad_snr"] = family.signal_to_noise
            metrics[f"tasks/{name}/rejected"] = 1.0 - family.accepted / self.num_tasks
            for what, values in seen.items():
                metrics[f"tasks/{name}/{what}"] = mean_metric(values)
        shared = shared._replace(norms=jnp.stack(norms))
        names = [estimator.episodes.family.name for estimator in self.estimators]
        losses = jnp.stack([metrics[f"tasks/{name}/objective"] for name in names])
        loss = jnp.average(losses, weights=jnp.asarray(self.weights))
        shared, meta_metrics = self._update(shared, total, loss, jnp.stack(usable).any())
        meta_metrics["meta/loss"] = loss
        meta_metrics["meta/grad_snr"] = optax.tree.norm(total, squared=True) / noise
        return shared, tuple(advanced), metrics | meta_metrics

    def _trained(self, tree: Theta, rest: Theta | None = None) -> Theta:
        """The tree with `rest`, else zeros, for the groups of theta that stay as they are."""
        if not self.only:
            return tree
        rest = jax.tree.map(jnp.zeros_like, tree) if rest is None else rest
        return jax.tree.map_with_path(
            lambda path, x, y: x if path[0].key in self.only else y, tree, rest
        )

    def _update(
        self, shared: _Shared, gradient: Theta, loss: Array, usable: Array
    ) -> tuple[_Shared, Metrics]:
        # There is no second loss: a rule that reads a validation loss gets this one, too.
        updates, meta_opt_state = optax.with_extra_args_support(self.meta_optimizer).update(
            gradient, shared.meta_opt_state, shared.theta, value=loss, eval_value=loss
        )
        # A meta-optimizer may move what has no gradient: by momentum, by decay.
        theta = optax.apply_updates(shared.theta, self._trained(updates))
        point = self._trained(eval_params(meta_opt_state, theta), shared.theta)
        average = jax.tree.map(
            lambda a, t: self.ema * a + (1.0 - self.ema) * t, shared.theta_average, point
        )
        leaves = jax.tree.leaves((theta, meta_opt_state))
        finite = usable & jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]).all()
        old = (shared.theta, shared.theta_average, shared.meta_opt_state)
        theta, average, meta_opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (theta, average, meta_opt_state), old
        )
        metrics = {
            "meta/rejected": 1.0 - finite,
            "meta/grad_norm": optax.tree.norm(gradient),
            "meta/update_norm": optax.tree.norm(updates),
            "meta/theta_norm": optax.tree.norm(theta),
        }
        shared = shared._replace(
            step=shared.step + 1,
            theta=theta,
            theta_average=average,
            meta_opt_state=meta_opt_state,
        )
        return shared, metrics


def _unless_lost(gradients: Theta, seen: Metrics) -> Theta:
    """NaN where no task of a family had a finite loss: capped alike, they would count as equal."""
    if "diverged" not in seen:
        return gradients
    lost = mean_metric(seen["diverged"]) >= 1.0
    return jax.tree.map(lambda g: jnp.where(lost, jnp.nan, g), gradients)


def _part(state: MetaTrainState) -> tuple[_Shared, tuple[EstimatorState, ...]]:
    return _Shared(*(getattr(state, name) for name in _Shared._fields)), state.est_states


def _join(shared: _Shared, est_states: tuple[EstimatorState, ...]) -> MetaTrainState:
    return MetaTrainState(**shared._asdict(), est_states=est_states)


def _cut(tree: Any, shards: int, tasks: int) -> Any:
    return jax.tree.map(lambda x: x.reshape(shards, tasks // shards, *x.shape[1:]), tree)
