import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.oracles import agrees, distorted, drawn

from tasks.families.convex import Bowl
from tasks.families.synthetic import Function2D, Quadratic
from tasks.families.wrappers import LogObjective, Rescale, SparseGradient, SumOfTasks
from tasks.traits import traits

KEY = jax.random.key(0)


def test_rescale_is_a_change_of_units():
    inner, family = Quadratic(6, noise=0.5), Rescale(Quadratic(6, noise=0.5), 20.0)
    cfg, task, x = drawn(family)
    plain = inner.task(cfg, ())
    matrix, target = np.float64(cfg["matrix"]), np.float64(cfg["target"])
    agrees(task, x, (), lambda x: 0.5 * np.sum((matrix @ (x / 20) - target) ** 2))
    np.testing.assert_allclose(task.init(KEY), 20 * plain.init(KEY), rtol=1e-6)
    zeros = jnp.zeros(6)
    np.testing.assert_allclose(distorted(task, zeros), distorted(plain, zeros) / 20, rtol=1e-5)
    assert task.lower_bound == plain.lower_bound


def test_log_objective_in_numpy_and_at_its_floor():
    _, task, x = drawn(LogObjective(Bowl(5.0)))
    formula = lambda x: np.log(0.5 * (5 * x[0] ** 2 + x[1] ** 2) + 1e-6) - np.log(1e-6)
    agrees(task, x, (), formula)
    assert task.loss(jnp.zeros(2), KEY, ()) == 0 == task.lower_bound
    _, task, _ = drawn(LogObjective(Function2D("booth")))
    assert task.lower_bound == 0
    _, task, _ = drawn(LogObjective(Function2D("branin")))
    least = task.loss(jnp.array([-np.pi, 12.275], jnp.float32), KEY, ())
    assert least - 1e-3 < task.lower_bound <= least


def test_log_objective_is_finite_where_the_loss_is_below_zero():
    _, task, _ = drawn(LogObjective(Function2D("saddle")))
    value, grad = jax.value_and_grad(task.loss)(jnp.array([0.0, 3.0]), KEY, ())
    assert value == 0 == task.lower_bound and not np.any(grad)


def test_sparse_gradients_keep_few_entries_as_they_are_after_the_noise():
    _, task, _ = drawn(SparseGradient(Quadratic(1000, noise=0.5), probability=0.9))
    ones = 10 * jnp.ones(1000)
    seen, again, other = (np.asarray(distorted(task, ones, seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(seen, again)
    assert np.any(seen != other)
    kept = seen[seen != 0]
    assert 70 < len(kept) < 130
    assert 0.35 < kept.std() < 0.65 and abs(kept.mean() - 10) < 0.2  # of 10 + N(0, 0.5^2)
    _, still, _ = drawn(SparseGradient(Quadratic(1000)))
    assert set(np.unique(distorted(still, ones))) <= {0.0, 10.0}


def test_a_sum_adds_losses_and_applies_the_noise_of_each_part():
    parts = (Quadratic(400, noise=0.5), Function2D("booth"), Quadratic(400, noise=0.1))
    cfg, task, params = drawn(SumOfTasks(parts, "three"))
    data = task.batch(KEY, "train")
    each = [f.task(c, ()).loss(p, KEY, ()) for f, c, p in zip(parts, cfg, params, strict=True)]
    np.testing.assert_allclose(task.loss(params, KEY, data), sum(each), rtol=1e-6)
    seen = distorted(task, jax.tree.map(jnp.zeros_like, params))
    np.testing.assert_allclose(np.std(seen[0]), 0.5, rtol=0.15)
    np.testing.assert_allclose(np.std(seen[2]), 0.1, rtol=0.15)
    assert not np.any(seen[1])
    assert abs(np.corrcoef(seen[0], seen[2])[0, 1]) < 0.2
    assert task.lower_bound == 0
    assert drawn(SumOfTasks((Bowl(), Function2D("saddle")), "open"))[1].lower_bound is None


def test_wrapped_tasks_are_the_problem_they_wrap():
    for family in (Rescale(Bowl(), 2.0), LogObjective(Bowl()), SparseGradient(Bowl())):
        assert traits(family) == traits(Bowl())
    summed = traits(SumOfTasks((Bowl(), Quadratic(), Bowl()), "sum"))
    assert summed.architecture == "Bowl+Quadratic" and summed.dataset == "generated"


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="scale: 0.0 is not allowed; it must be above 0"):
        Rescale(Bowl(), 0.0)
    with pytest.raises(ValueError, match="probability: 1.5 is not allowed"):
        SparseGradient(Bowl(), 1.5)
    with pytest.raises(ValueError, match="families: "):
        SumOfTasks((), "none")
