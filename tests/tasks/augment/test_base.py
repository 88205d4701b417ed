"""Families under augmentations: what is drawn, in which order, and what stays as it is."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.bowls import Bowl, on, plain, seen

from meta_train.cli import main
from meta_train.config import loading
from meta_train.config.errors import ConfigError
from tasks.augment.base import Augmentation, Augmented, augment
from tasks.augment.objective import Bfloat16, LogObjective, LossScale, Reparametrise
from tasks.augment.registry import AUGMENTATIONS
from tasks.base import TaskFamily

FIELDS = {  # so that they change every batch and every gradient of the bowl
    "random_subspace": {"dimension": (1, 2)},
    "reduced_batch": {"fraction": (0.1, 0.5)},
}
EVERY = [kind(**FIELDS.get(name, {})) for name, kind in AUGMENTATIONS.items()]
DYNAMIC = [augmentation for augmentation in EVERY if not augmentation.per_family]


def run(task, key):
    """Two steps of gradient descent: losses, gradients as an optimizer sees them, the end."""
    init_key, *keys = jax.random.split(key, 3)
    params = task.init(init_key)
    state, found = task.gradient.init(params), []
    for step_key in keys:
        batch = task.batch(step_key, "train")
        loss, grads = jax.value_and_grad(task.loss)(params, step_key, batch)
        gradient = optax.with_extra_args_support(task.gradient)
        grads, state = gradient.update(grads, state, params, key=step_key)
        found.append((loss, grads, batch))
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    return found, params, task.loss(params, keys[0], task.whole("test"))


def same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", DYNAMIC, ids=lambda a: type(a).__name__)
def test_an_augmentation_that_is_off_changes_no_bit(augmentation):
    task = plain(Bowl())
    off, _ = on(augmentation, task, applied=False)
    with jax.disable_jit():
        same(run(task, jax.random.key(3)), run(off, jax.random.key(3)))
    assert float(off.lower_bound) == task.lower_bound


@pytest.mark.parametrize("augmentation", EVERY, ids=lambda a: type(a).__name__)
def test_an_augmentation_that_is_on_changes_something(augmentation):
    task = plain(Bowl())
    applied, _ = on(augmentation, task)
    before, after = (run(t, jax.random.key(3)) for t in (task, applied))
    leaves = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    assert any(np.any(np.asarray(a) != np.asarray(b)) for a, b in leaves)
    assert all(np.all(np.isfinite(np.asarray(leaf))) for leaf in jax.tree.leaves(after))


@pytest.mark.slow
def test_one_batch_holds_augmented_and_plain_tasks_and_equals_single_runs():
    halved = tuple(dataclasses.replace(a, probability=0.5) for a in DYNAMIC)
    family = Augmented(Bowl(), halved)
    data, keys = family.load(), jax.random.split(jax.random.key(0), 32)

    def one(data, key):
        cfg = family.sample(key)
        task = family.task(cfg, data)
        return run(task, key), jnp.stack([chosen for chosen, _ in cfg[1]]), task.lower_bound

    together = jax.jit(jax.vmap(one, in_axes=(None, 0)))(data, keys)
    single = jax.jit(one)
    alone = [single(data, key) for key in keys]
    # A normalised gradient near 0 and a logarithm near the bound magnify rounding.
    jax.tree.map(
        lambda a, *b: np.testing.assert_allclose(a, np.stack(b), rtol=2e-3, atol=2e-3),
        together,
        *alone,
    )
    applied = np.asarray(together[1])
    assert applied.any(0).all() and not applied.all(0).any()


def test_a_task_under_nothing_is_the_task_of_the_family():
    rare = tuple(dataclasses.replace(a, probability=1e-9) for a in DYNAMIC)
    family, key = Augmented(Bowl(), rare), jax.random.key(5)
    cfg = family.sample(key)
    assert not any(chosen for chosen, _ in cfg[1])
    inner = Bowl().task(Bowl().sample(key), Bowl().load())
    with jax.disable_jit():
        same(run(inner, key), run(family.task(cfg, family.load()), key))


def test_the_probability_is_that_of_being_applied():
    family = Augmented(Bowl(), (LogObjective(0.3), LossScale(1.0), Reparametrise(0.7)))
    draw = jax.vmap(lambda key: jnp.stack([chosen for chosen, _ in family.sample(key)[1]]))
    rates = np.mean(draw(jax.random.split(jax.random.key(0), 4000)), 0)
    np.testing.assert_allclose(rates, [0.3, 1.0, 0.7], atol=0.03)


def test_the_first_augmentation_is_the_innermost():
    scale, log = LossScale(range=(100.0, 100.0)), LogObjective()
    data, key = Bowl().load(), jax.random.key(0)
    task = plain(Bowl())
    params, batch = task.init(key), task.batch(key, "train")
    value = task.loss(params, key, batch)
    for order, wanted in [
        ((scale, log), np.log(100 * value + 1e-6) - np.log(1e-6)),
        ((log, scale), 100 * (np.log(value + 1e-6) - np.log(1e-6))),
    ]:
        family = Augmented(Bowl(), order)
        loss = family.task(family.sample(key), data).loss(params, key, batch)
        np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_two_of_a_kind_draw_for_themselves():
    kind = AUGMENTATIONS["gradient_noise"](std=(1.0, 1.0))  # pyright: ignore[reportCallIssue]
    family = Augmented(Bowl(), (kind, kind))
    task = family.task(family.sample(jax.random.key(0)), family.load())
    zeros = {"a": jnp.zeros(3000), "b": jnp.zeros((2, 2))}
    (total,) = seen(task, [zeros], zeros)
    np.testing.assert_allclose(np.std(total["a"]), np.sqrt(1 + 1 + 0.3**2), rtol=0.05)


def test_a_family_keeps_what_identifies_it():
    family = Augmented(Bowl(), (LogObjective(),))
    assert isinstance(family, TaskFamily) and hash(family) == hash(dataclasses.replace(family))
    assert (family.name, family.architecture) == ("bowl", "Bowl")
    assert not hasattr(family, "dataset") and not hasattr(family, "loss")
    assert all(isinstance(augmentation, Augmentation) for augmentation in EVERY)


def test_what_changes_the_program_is_decided_once_for_a_family():
    families = [Bowl(name=f"bowl_{i}") for i in range(300)]
    found = augment(families, [Bfloat16(0.3)], seed=1)
    low = [isinstance(family, Augmented) for family in found]
    assert 60 < sum(low) < 120
    assert found == augment(families, [Bfloat16(0.3)], seed=1)
    assert found != augment(families, [Bfloat16(0.3)], seed=2)
    assert [*augment(families[::-1], [Bfloat16(0.3)], seed=1)] == [*found[::-1]]
    assert [isinstance(f, Augmented) for f in augment(families, [], seed=1)] == [False] * 300
    with pytest.raises(ValueError, match=r"probability: 0.5 .* use augment\(\)"):
        Augmented(Bowl(), (Bfloat16(0.5),))


def test_a_loss_without_a_bound_has_no_logarithm():
    with pytest.raises(ValueError, match="LogObjective needs a lower bound.*'bowl' declares none"):
        augment([Bowl(bounded=False)], [LogObjective()], seed=0)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (
            "log_objective",
            {"probability": 0.0},
            "probability: 0.0 is not allowed; it must be above",
        ),
        ("bfloat16", {"probability": 1.5}, "probability: 1.5 is not allowed"),
        ("reparametrise", {"level": "tensors"}, "level: .* did you mean tensor?"),
        ("reparametrise", {"range": (0.0, 1.0)}, "range: .* must be 0 < low <= high"),
        ("loss_scale", {"range": (2.0, 1.0)}, "range: .* must be 0 < low <= high"),
        ("gradient_noise", {"std": (-1.0, 1.0)}, "std: .* must be 0 < low <= high"),
        ("sparse_gradient", {"zero": (0.5, 1.1)}, "zero: .* must be 0 <= low <= high <= 1"),
        ("reduced_batch", {"fraction": (0.5, 0.1)}, "fraction: .* must be 0 <= low <= high <= 1"),
        ("random_subspace", {"dimension": (0, 3)}, "dimension: .* must be 0 < low <= high"),
        ("asynchronous_delay", {"steps": (3, 2)}, "steps: .* must be 0 < low <= high"),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_name(kind, fields, words):
    with pytest.raises(ValueError, match=words):
        AUGMENTATIONS[kind](**fields)


TEXT = """
steps: 3
num_tasks: 2
optimizer: {kind: hierarchical_rnn, preset: paper, level_sizes: [2], num_gradient_scales: 1}
tasks: [{kind: softmax_regression, dim: 3, batch_size: 4}]
augmentations: %s
horizon: {kind: fixed, steps: 4}
estimator: {kind: pes, length: 2}
"""


@pytest.mark.slow
def test_a_run_trains_under_all_of_them(tmp_path):
    blocks = [{"kind": kind, "probability": 0.5} for kind in AUGMENTATIONS]
    path, out = tmp_path / "config.yaml", tmp_path / "run"
    path.write_text(TEXT % json.dumps(blocks))
    assert main(["train", str(path), "--out", str(out)]) == 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines and all(np.isfinite(v) for v in lines[-1].values() if isinstance(v, float))


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ("[{kind: reparametrize}]", "augmentations.0.kind: .* did you mean reparametrise?"),
        ("[{kind: loss_scale, rnge: [1, 2]}]", "augmentations.0.rnge: unknown key; did you mean"),
        ("[{kind: loss_scale, probability: 2}]", "augmentations.0.probability: 2.0 is not allowed"),
        ("[{kind: reparametrise, level: all}]", "augmentations.0.level: unknown name 'all'"),
    ],
)
def test_a_config_is_refused_with_the_key_and_the_way_out(blocks, words):
    with pytest.raises(ConfigError, match=words):
        loading.parse(TEXT % blocks)
