"""The one inner-training loop: meta-training and evaluation both run it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from learned_opt.base import LearnedOptimizer, Params, Theta, eval_params, reads_eval_value
from meta_train.inner.continuation import Buffer, Resume, fresh_buffer, risen
from meta_train.inner.expert import Expert, mixed
from meta_train.inner.horizons import Horizons, MetaStep
from meta_train.inner.step import gradient_at
from tasks.base import Cfg, Data, Split, Task, TaskFamily


@dataclass(frozen=True)
class Episodes:
    """What an endless sequence of training runs is made of, all of it static.

    measure: the split, taken whole, whose loss counts; None takes the training minibatch that the
    gradient came from, which costs nothing more. expert: leads the runs of early meta-steps.
    resume: lets runs go on from late states of others.
    """

    family: TaskFamily
    optimizer: LearnedOptimizer
    horizons: Horizons
    measure: Split | None = None
    expert: Expert | None = None
    resume: Resume | None = None


class Inner(NamedTuple):
    """One training run in flight."""

    cfg: Cfg  # drawn at the start of the run
    params: Params  # the gradient point, updated every step
    opt_state: Any  # updated every step
    gradient_state: Any  # of the task's gradient transformation, updated every step
    step: Int[Array, ""]  # updates made so far, 0 .. horizon
    horizon: Int[Array, ""]  # updates this run gets
    initial_loss: Float[Array, ""]  # measured loss before the first update
    last_loss: Float[Array, ""]  # measured at the step before; initial_loss at the first
    best_loss: Float[Array, ""]  # lowest measured so far, NaN apart
    expert_state: Any = ()  # of the expert, updated every step
    buffer: Buffer | None = None  # with `resume`: the late state to go on from


class Trajectory(NamedTuple):
    """What one window of `length` steps saw; leading axis: steps."""

    loss: Float[Array, "*length"]  # before the step's update, at eval_params, on the measured split
    initial_loss: Float[Array, "*length"]
    previous: Float[Array, "*length"]  # loss one step earlier, of no meaning at a run's first step
    best: Float[Array, "*length"]  # lowest loss of the run so far, this step included
    previous_best: Float[Array, "*length"]  # as previous
    lower_bound: Float[Array, "*length"] | None  # None where the task declares none
    step: Int[Array, "*length"]  # 0 at the first step of a run
    horizon: Int[Array, "*length"]
    fresh: Bool[Array, "*length"]  # True at and after the step that opened a new run here


def start(
    episodes: Episodes,
    data: Data,
    theta: Theta,
    key: PRNGKeyArray,
    meta_step: MetaStep,
    horizon: Int[Array, ""] | None = None,
) -> Inner:
    """Draws a task, a horizon and starting parameters.

    meta_step: meta-steps made so far. horizon: takes the place of a drawn one.
    """
    cfg_key, horizon_key, init_key, rule_key, loss_key = jax.random.split(key, 5)
    cfg = episodes.family.sample(cfg_key)
    if horizon is None:
        horizon = episodes.horizons.sample(horizon_key, meta_step)
    task = episodes.family.task(cfg, data)
    params = task.init(init_key)
    opt_state = episodes.optimizer.opt(theta, horizon, key=rule_key).init(params)
    batch_key, noise_key = jax.random.split(loss_key)
    batch = (
        task.batch(batch_key, "train") if episodes.measure is None else task.whole(episodes.measure)
    )
    loss = task.loss(eval_params(opt_state, params), noise_key, batch)
    initial_loss = jax.lax.stop_gradient(loss)
    inner = Inner(
        cfg=cfg,
        params=params,
        opt_state=opt_state,
        gradient_state=task.gradient.init(params),
        step=jnp.zeros((), jnp.int32),
        horizon=jnp.asarray(horizon, jnp.int32),
        initial_loss=initial_loss,
        last_loss=initial_loss,
        best_loss=initial_loss,
        expert_state=() if episodes.expert is None else episodes.expert.opt(horizon).init(params),
    )
    return inner if episodes.resume is None else inner._replace(buffer=fresh_buffer(inner))


def _successor(
    episodes: Episodes, data: Data, theta: Theta, inner: Inner, key: PRNGKeyArray, step: MetaStep
) -> Inner:
    """What takes the place of `inner` when it ends: a fresh run, or one that goes on."""
    fresh = start(episodes, data, theta, key, step)
    if episodes.resume is None or inner.buffer is None:
        return fresh
    saved = jax.lax.stop_gradient(inner.buffer.saved)
    longer = saved._replace(horizon=saved.step + fresh.horizon)
    goes_on = jax.random.bernoulli(jax.random.fold_in(key, 1), episodes.resume.probability)
    return _where(goes_on, longer, fresh._replace(buffer=None))


def unroll(
    episodes: Episodes,
    data: Data,
    theta: Theta,
    inner: Inner,
    key: PRNGKeyArray,
    meta_step: MetaStep,
    length: int,
    remat_every: int = 0,
) -> tuple[Inner, Trajectory]:
    """Makes `length` updates; a run that reaches its horizon is replaced in place by a fresh one.

    At most one run may end per window, so `length` must not exceed the shortest horizon. All
    randomness comes from `key`: two calls with the same key and different theta see the same data,
    noise and new tasks. meta_step: meta-steps made so far. remat_every: a derivative keeps the
    state of every so many steps and computes what is between them again; 0 keeps all. It must
    divide `length`.
    """
    start_key, steps_key = jax.random.split(key)
    successor = _successor(episodes, data, theta, inner, start_key, meta_step)

    def step(carry: tuple[Inner, Array], key: PRNGKeyArray):
        inner, fresh = carry
        ended = inner.step >= inner.horizon
        fresh = fresh | ended
        next_one = successor
        if inner.buffer is not None:  # what was kept, also in this window, outlives the run
            next_one = successor._replace(buffer=fresh_buffer(inner.buffer.saved))
        inner = _where(ended, next_one, inner)
        inner, seen = _advance(episodes, data, theta, inner, key, meta_step)
        return (inner, fresh), seen._replace(fresh=fresh)

    def steps(carry: tuple[Inner, Array], keys: Array):
        return jax.lax.scan(step, carry, keys)

    carry = (inner, jnp.zeros((), bool))
    keys = jax.random.split(steps_key, length)
    if not remat_every:
        (inner, _), trajectory = steps(carry, keys)
        return inner, trajectory
    blocks = keys.reshape(-1, remat_every)
    (inner, _), trajectory = jax.lax.scan(jax.checkpoint(steps), carry, blocks)
    return inner, jax.tree.map(lambda x: x.reshape(length), trajectory)


def _advance(
    episodes: Episodes,
    data: Data,
    theta: Theta,
    inner: Inner,
    key: PRNGKeyArray,
    meta_step: MetaStep,
) -> tuple[Inner, Trajectory]:
    """One update, and what was seen before it."""
    task = episodes.family.task(inner.cfg, data)
    batch_key, loss_key, gradient_key, eval_key = jax.random.split(key, 4)
    batch, value, grads, gradient_state = gradient_at(
        task, inner.params, inner.gradient_state, batch_key, loss_key, gradient_key
    )
    point = eval_params(inner.opt_state, inner.params)
    if episodes.measure is not None:
        loss = task.loss(point, loss_key, task.whole(episodes.measure))
    elif point is inner.params:
        loss = value
    else:
        loss = task.loss(point, loss_key, batch)
    rule = episodes.optimizer.opt(theta, inner.horizon)
    losses = {"value": value}
    if reads_eval_value(episodes.optimizer):
        losses["eval_value"] = _validation_loss(task, point, eval_key)
    updates, opt_state = rule.update(
        grads, inner.opt_state, inner.params, **jax.lax.stop_gradient(losses)
    )
    expert_state = inner.expert_state
    if episodes.expert is not None:
        expert = episodes.expert.opt(inner.horizon)
        led, expert_state = expert.update(grads, expert_state, inner.params)
        updates = mixed(episodes.expert.weight(meta_step), led, updates)
    seen = _see(task, inner, loss)
    after = inner._replace(
        params=optax.apply_updates(inner.params, updates),
        opt_state=opt_state,
        gradient_state=gradient_state,
        step=inner.step + 1,
        last_loss=loss,
        best_loss=seen.best,
        expert_state=expert_state,
    )
    return _remember(inner, after), seen


def _validation_loss(task: Task, point: Params, key: PRNGKeyArray) -> Float[Array, ""]:
    """The loss at `point` on a minibatch of inner_valid, for the rules that read one.

    It costs a forward pass at every step: vmapped runs, each at a step of its own, could not leave
    it out at some. A task without data gives a fresh batch, or fresh noise.
    """
    batch_key, loss_key = jax.random.split(key)
    return task.loss(point, loss_key, task.batch(batch_key, "inner_valid"))


def _remember(inner: Inner, after: Inner) -> Inner:
    """`after`, the state one step on, with what the buffer makes of that step."""
    if inner.buffer is None:
        return after
    rise, highest = risen(inner.buffer, after.last_loss, inner.last_loss)
    keep = (rise > inner.buffer.highest) | (after.step >= after.horizon)
    sound = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((after.last_loss, after.params))]
    saved = _where(keep & jnp.stack(sound).all(), after._replace(buffer=None), inner.buffer.saved)
    return after._replace(buffer=Buffer(saved, rise, highest))


def _where(condition: Bool[Array, ""], new: Inner, old: Inner) -> Inner:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _see(task: Task, inner: Inner, loss: Float[Array, ""]) -> Trajectory:
    """One step at which the measured loss is `loss`."""
    best = jnp.where(inner.step == 0, loss, jnp.fmin(inner.best_loss, loss))
    bound = task.lower_bound
    return Trajectory(
        loss=loss,
        initial_loss=inner.initial_loss,
        previous=inner.last_loss,
        best=best,
        previous_best=inner.best_loss,
        lower_bound=None if bound is None else jnp.asarray(bound, loss.dtype),
        step=inner.step,
        horizon=inner.horizon,
        fresh=jnp.zeros((), bool),
    )


def see_end(
    episodes: Episodes, data: Data, inner: Inner, key: PRNGKeyArray, batches: int, split: Split
) -> Trajectory:
    """The parameters that a run arrived at, measured on fresh minibatches, as one more step."""
    task = episodes.family.task(inner.cfg, data)
    point = eval_params(inner.opt_state, inner.params)

    def loss(key: PRNGKeyArray) -> Array:
        batch_key, loss_key = jax.random.split(key)
        return task.loss(point, loss_key, task.batch(batch_key, split))

    losses = jax.lax.map(loss, jax.random.split(key, batches))
    return jax.tree.map(lambda x: x[None], _see(task, inner, jnp.mean(losses)))
