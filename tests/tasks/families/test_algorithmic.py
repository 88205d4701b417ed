import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks.families.algorithmic import (
    BinaryAddition,
    Parity,
    binary_sum,
    masked_mean,
    running_parity,
)

KINDS = pytest.mark.parametrize("kind", [Parity, BinaryAddition])


def test_running_parity_against_python():
    bits = np.random.default_rng(0).integers(0, 2, (20, 16))
    expected = [[sum(row[: i + 1]) % 2 for i in range(16)] for row in bits.tolist()]
    np.testing.assert_array_equal(running_parity(jnp.array(bits)), expected)


@pytest.mark.parametrize("length", [4, 16])
def test_binary_sums_against_python(length):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**length, (50, 2)).tolist() + [[2**length - 1] * 2]
    bits = np.array(
        [[[number >> i & 1 for i in range(length)] for number in pair] for pair in numbers]
    )
    found = np.asarray(binary_sum(jnp.array(bits[:, 0]), jnp.array(bits[:, 1])))
    sums = [sum(bit << i for i, bit in enumerate(row)) for row in found.tolist()]
    assert sums == [(one + other) % 2**length for one, other in numbers]


def test_the_masked_mean_is_that_of_the_first_places():
    values = jax.random.normal(jax.random.key(0), (5, 7))
    for count in (1, 4, 7):
        found = masked_mean(values, jnp.int32(count))
        np.testing.assert_allclose(found, np.mean(values[:, :count]), rtol=1e-5)


@pytest.mark.parametrize(("kind", "shortest"), [(Parity, 2), (BinaryAddition, 4)])
def test_difficulty_makes_the_sequences_longer(kind, shortest):
    keys = jax.random.split(jax.random.key(0), 300)
    counts = jax.vmap(kind(length=10).sample)(keys)["count"]
    assert set(np.asarray(counts).tolist()) == set(range(shortest, 11))
    for difficulty, count in ((0.0, shortest), (1.0, 10)):
        counts = jax.vmap(kind(length=10, difficulty=(difficulty,) * 2).sample)(keys)["count"]
        np.testing.assert_array_equal(counts, count)


@KINDS
def test_places_beyond_the_difficulty_do_not_count(kind):
    family = kind(length=8, hidden=4, layers=2, cell="lstm", difficulty=(0.5, 0.5))
    cfg = family.sample(jax.random.key(0))
    task = family.task(cfg, ())
    params, batch = task.init(jax.random.key(1)), task.batch(jax.random.key(2), "train")
    count, loss = int(cfg["count"]), jax.jit(task.loss)
    base = loss(params, jax.random.key(3), batch)
    for place, same in ((count - 1, False), (count, True)):
        other = {**batch, "answer": batch["answer"].at[:, place].set(1 - batch["answer"][:, place])}
        assert (float(loss(params, jax.random.key(3), other)) == float(base)) == same


@KINDS
def test_splits_have_sequences_of_their_own(kind):
    family = kind()
    task = family.task(family.sample(jax.random.key(0)), ())
    train, test = (task.batch(jax.random.key(1), split) for split in ("train", "test"))
    assert np.mean(train["bits"] != test["bits"]) > 0.4
    np.testing.assert_array_equal(task.whole("test")["bits"], task.whole("test")["bits"])


@KINDS
def test_the_algorithm_is_learned_from_chance(kind):
    before, after, _ = trained(kind(length=4, difficulty=(1.0, 1.0)), steps=400, rate=2e-2)
    assert 0.5 * np.log(2) < before < 2 * np.log(2)
    assert after < 0.2 * np.log(2)


def test_dropout_draws_from_the_key():
    family = Parity(dropout=0.5)
    task = family.task(family.sample(jax.random.key(0)), ())
    params, batch = task.init(jax.random.key(1)), task.batch(jax.random.key(2), "train")
    loss = jax.jit(task.loss)
    one, again, other = (float(loss(params, jax.random.key(i), batch)) for i in (0, 0, 1))
    assert one == again != other


@KINDS
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cell": "grru"}, "did you mean gru"),
        ({"length": 17}, "length: 17 is not allowed; .* at most 16"),
        ({"length": 1}, "length: 1 is not allowed"),
        ({"layers": 3}, "layers: 3 is not allowed; it must be 1 or 2"),
        ({"hidden": 0}, "hidden: 0"),
        ({"dropout": 1.0}, "dropout: 1.0"),
        ({"difficulty": (0.5, 1.5)}, "difficulty: .* 0 <= low <= high <= 1"),
    ],
)
def test_bad_fields_are_named(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        kind(**fields)
