"""Optimizers named on a command line."""

import math
from functools import partial
from itertools import count

import contenders
import jax
import jax.numpy as jnp
import pytest


def moved(contender):
    tx = contenders.build(contender, 10)
    params, update = jnp.ones(3), jax.jit(tx.update)
    return update(jnp.full(3, 2.0), tx.init(params), params, value=jnp.ones(()))[0]


def test_hyperparameters_reach_the_rule():
    assert moved("sgd:learning_rate=2.5e-1").tolist() == [-0.5] * 3
    assert moved("sgd:schedule=warmup:learning_rate=1").tolist() == [-2.0] * 3


def test_learned_rules_take_the_arguments_of_load():
    slow, fast = (moved(f"small_fc:learning_rate={rate}") for rate in (1e-4, 1e-2))
    assert jnp.all(jnp.abs(slow) < 0.1 * jnp.abs(fast))


@pytest.mark.parametrize(
    ("contender", "message"),
    [
        ("adm", "did you mean adam"),
        ("adam:rate=1", "adam.rate: unknown hyperparameter"),
        ("adam:learning_rate", "'learning_rate' is not allowed; it must be key=value"),
        ("adam:learning_rate=-1", "learning_rate"),
        ("relative_soap:cautious=3", "relative_soap.cautious: 3 is not allowed; it must be True"),
        ("adam:b1=0.9,b2=0.99", "'b1=0.9,b2=0.99' is not allowed; it must be key=value"),
        ("anchored_mlp:rate=1", "anchored_mlp:rate=1: .*'rate'"),
    ],
)
def test_what_cannot_be_built_is_refused(contender, message):
    with pytest.raises(ValueError, match=message):
        contenders.build(contender, 10)


def test_adamw_is_best_by_each_loss_and_never_where_it_diverged():
    first, second, third = contenders.adamw([1e-3, 1e-2, 1e-1])
    results = {
        "adam": {"train": 0.0, "valid": 0.0},
        first: {"train": 2.0, "valid": 1.0},
        second: {"train": 1.0, "valid": 2.0},
        third: {"train": None, "valid": None},
    }
    assert [contenders.best(results, key) for key in ("train", "valid")] == [second, first]
    assert contenders.build(first, 10)


def test_final_losses_are_means_of_a_twentieth():
    losses = [jnp.float32(value) for value in range(40)]
    assert contenders.final(losses) == 38.5
    assert contenders.final(losses[:3]) == 2.0
    assert contenders.finite(contenders.final([jnp.float32(math.nan)])) is None


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, contenders.ROUNDS), (7.0, 7)])
def test_contenders_take_turns(seconds, rounds, monkeypatch):
    """By a clock on which every turn takes a second."""
    monkeypatch.setattr(contenders, "SECONDS", seconds)
    monkeypatch.setattr(contenders.time, "perf_counter", partial(next, count()))
    order = []

    def steps(name):
        for i in count():
            order.append(name)
            yield contenders.Reached(None, None, jnp.float32(i))

    took = contenders.milliseconds({name: steps(name) for name in "ab"})
    assert took == {"a": 1e3 / contenders.TURN, "b": 1e3 / contenders.TURN}
    turn = ["a"] * contenders.TURN + ["b"] * contenders.TURN
    assert order == turn * (1 + rounds)


def test_the_table_marks_the_best_adamw_and_says_what_diverged():
    first, second = contenders.adamw([1e-3, 1e-2])
    results = {
        first: {"train": 2.0, "valid": 1.0, "ms": 5.0},
        second: {"train": 1.0, "valid": None},
        "adam": {"train": 0.5, "valid": 0.25, "ms": 4.0},
    }
    lines = [line.split() for line in contenders.table(results).splitlines()]
    assert lines == [
        ["train", "valid", "ms"],
        [first, "2", "1*", "5"],
        [second, "1*", "diverged"],
        ["adam", "0.5", "0.25", "4"],
    ]
