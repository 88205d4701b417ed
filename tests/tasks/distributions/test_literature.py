import re

import jax
import numpy as np
import optax
import pytest

from tasks.distributions.literature import CODE_DEFAULT, PAPER_LIKE, SETS
from tasks.families.two_classes import RandomMLPClassifier

COUNTS = {
    "quadratic": 4, "quadratic_noisy": 4, "quadratic_large": 3, "bowl": 4, "bowl_noisy": 4,
    "softmax": 4, "softmax_noisy": 4, "functions": 9, "functions_noisy": 9, "mlp": 12,
    "matmul": 10, "log_objective": 6, "rescale": 9, "norm": 3, "norm_noisy": 3, "sum": 6,
    "sum_noisy": 2, "sparse_gradient": 6, "sparse_gradient_mlp": 3, "sparse_softmax": 1,
    "one_hot_sparse_softmax": 1, "sum_of_quadratics": 10, "projection_quadratic": 10,
    "outward_snake": 10, "dependency_chain": 10, "min_max_well": 5,
}  # fmt: skip
EVERY = [family for families in SETS.values() for family in families]


def test_the_lists_have_their_documented_lengths():
    assert {name: len(families) for name, families in SETS.items()} == COUNTS
    assert len(EVERY) == 152
    assert len(PAPER_LIKE.families) == 131 and len(CODE_DEFAULT.families) == 101
    assert set(PAPER_LIKE.families) | set(CODE_DEFAULT.families) <= set(EVERY)


def test_names_are_unique_and_fit_for_metrics():
    names = [family.name for family in EVERY]
    assert len(set(names)) == 152
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names)


def test_networks_are_in_the_code_s_list_alone_and_slow_sets_in_the_paper_s():
    def networks(families):
        return [f for f in families if isinstance(getattr(f, "family", f), RandomMLPClassifier)]

    assert len(networks(CODE_DEFAULT.families)) == 15 and not networks(PAPER_LIKE.families)
    for name in ("outward_snake", "min_max_well", "dependency_chain"):
        assert set(SETS[name]) <= set(PAPER_LIKE.families)
        assert not set(SETS[name]) & set(CODE_DEFAULT.families)


def test_samples_are_all_of_the_list_in_the_order_of_the_seed():
    drawn = PAPER_LIKE.sample(3, 131)
    assert set(drawn) == set(PAPER_LIKE.families)
    assert PAPER_LIKE.sample(3, 10) == drawn[:10] != PAPER_LIKE.sample(4, 10)
    with pytest.raises(ValueError, match="131 tasks"):
        PAPER_LIKE.sample(0, 132)


def once(family):
    key = jax.random.key(0)

    @jax.jit
    def run(key):
        task = family.task(family.sample(key), family.load())
        params = task.init(key)
        loss, grads = jax.value_and_grad(task.loss)(params, key, task.batch(key, "train"))
        distort = optax.with_extra_args_support(task.gradient)
        seen, _ = distort.update(grads, distort.init(params), params, key=key)
        return loss, grads, seen, task.lower_bound

    return jax.device_get(run(key))


def check_once(family):
    loss, grads, seen, bound = once(family)
    assert np.isfinite(loss) and loss >= bound
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((grads, seen)))


@pytest.mark.parametrize("name", SETS)
def test_the_last_of_every_set_has_a_finite_first_loss_and_gradient(name):
    check_once(SETS[name][-1])


@pytest.mark.slow
@pytest.mark.parametrize("family", EVERY, ids=lambda family: family.name)
def test_every_entry_has_a_finite_first_loss_and_gradient(family):
    check_once(family)


def test_noise_inside_a_sum_reaches_the_gradient():
    noisy, plain = SETS["sum_noisy"][0], SETS["sum"][0]
    _, grads, seen, _ = once(noisy)
    change = np.concatenate([np.asarray(s - g) for s, g in zip(seen, grads, strict=True)])
    np.testing.assert_allclose(change.std(), 0.1, rtol=0.4)
    _, grads, seen, _ = once(plain)
    jax.tree.map(np.testing.assert_array_equal, grads, seen)
