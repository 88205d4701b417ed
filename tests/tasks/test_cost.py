import jax
import jax.numpy as jnp
import pytest

from tasks.cost import cost
from tasks.families.language import LanguageModel
from tasks.families.mlp import MLPClassifier, SoftmaxRegression
from tasks.families.synthetic import MatrixFactorisation, Quadratic


def by_xla(family):
    """The operations that the compiler counts; it does not multiply loops out."""
    data, key = family.load(), jax.random.key(0)
    cfg = family.sample(key)
    task = family.task(cfg, data)

    def step(params, cfg, data, key, batch):
        return jax.value_and_grad(family.task(cfg, data).loss)(params, key, batch)

    lowered = jax.jit(step).lower(task.init(key), cfg, data, key, task.batch(key, "train"))
    return lowered.compile().cost_analysis()["flops"]


@pytest.mark.parametrize(
    "family",
    [
        Quadratic(dim=40),
        MatrixFactorisation(),
        SoftmaxRegression(dim=64, batch_size=128),
        MLPClassifier(widths=(64, 64), batch_size=64),
    ],
    ids=lambda family: family.name,
)
def test_operations_are_those_that_the_compiler_counts(family):
    assert cost(family).operations == pytest.approx(by_xla(family), rel=0.1)


def test_operations_of_a_matrix_product_in_closed_form():
    """Forward: W x; backward: W^T r. Two operations for each of the products' terms."""
    assert cost(Quadratic(dim=500)).operations == pytest.approx(2 * 2 * 500**2, rel=0.01)


def test_loops_are_multiplied_out():
    short, long = (LanguageModel(sequence=length, hidden=64) for length in (10, 40))
    assert cost(long).operations == pytest.approx(4 * cost(short).operations, rel=0.02)
    # Per symbol and sequence: input, recurrent and output products; backward costs twice as much.
    products = 16 * 40 * 2 * (8 * 64 + 64 * 64 + 64 * 33)
    assert cost(long).operations == pytest.approx(3 * products, rel=0.15)


def test_parameters_are_those_of_the_start():
    for family in (MLPClassifier(widths=(7,)), LanguageModel(cell="lstm"), Quadratic(dim=3)):
        task = family.task(family.sample(jax.random.key(0)), family.load())
        params = task.init(jax.random.key(1))
        assert cost(family).parameters == sum(jnp.size(x) for x in jax.tree.leaves(params))
