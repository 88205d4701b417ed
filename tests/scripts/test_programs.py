"""Four programs under several rules."""

import itertools
import json

import contenders
import four_programs
import jax
import jax.numpy as jnp
import numpy as np
import optax
import programs
import pytest

CHANCE = {"characters": np.log(107), "classes": np.log(6), "digits": np.log(10), "regression": 1.0}
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if name != "regression" else [])
    for name in four_programs.PROGRAMS
]


@pytest.fixture(autouse=True)
def short_timing(monkeypatch):
    monkeypatch.setattr(contenders, "SECONDS", 0.0)


def test_what_a_comparison_reports():
    """The gradient is 1, so that a point goes down by its rate at every step."""
    program = four_programs.Program(
        steps=3,
        init=lambda key: jax.random.key_data(key)[-1].astype(jnp.float32),  # the seed
        loss=lambda params, batch: params * batch,
        batches=lambda seed: itertools.repeat(1.0),
        validate=lambda params: {"valid": params},
        around=lambda tx: optax.chain(optax.scale(2.0), tx),
        averaging=0.25,
    )
    names = [*contenders.adamw([1e-3]), "sgd:learning_rate=1:momentum=0"]
    adamw, sgd = programs.compare(program, names, seeds=2).values()
    assert sgd.pop("ms") > 0 and adamw["ms"] > 0
    from_seed_0 = {"train": -4.0, "valid": -6.0, "averaged": -2.53125}
    from_seed_1 = {"train": -3.0, "valid": -5.0, "averaged": -1.53125}
    assert sgd == {key: (from_seed_0[key] + from_seed_1[key]) / 2 for key in from_seed_0}
    np.testing.assert_allclose(adamw["valid"], 0.5, atol=3.1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_program_starts_near_chance_and_learns(name):
    program = four_programs.PROGRAMS[name]()
    start = jax.jit(program.init)(jax.random.key(0))
    assert 5e3 < sum(leaf.size for leaf in jax.tree.leaves(start)) < 6e4
    tx = contenders.build("adam:learning_rate=3e-3", 60)
    step = contenders.training_step(program.loss, program.around(tx))
    batches = itertools.islice(program.batches(0), 60)
    losses = [r.loss for r in contenders.run(step, start, program.around(tx).init(start), batches)]
    assert 0.8 * CHANCE[name] < losses[0] < 1.6 * CHANCE[name]
    assert contenders.final(losses) < 0.8 * losses[0]


def test_classes_and_targets_are_as_described():
    x, label = four_programs.clusters(np.random.default_rng(0), 5_000)
    assert x.shape == (5_000, 20) and np.linalg.matrix_rank(x, 1e-2) == 15
    assert np.bincount(label).min() > 700 and len(np.bincount(label)) == 6
    x, y = four_programs.friedman(np.random.default_rng(0), 5_000)
    clean = 10 * np.sin(np.pi * (x[:, 0] + 1) * (x[:, 1] + 1) / 4) + 5 * x[:, 2] ** 2
    clean += 5 * x[:, 3] + 2.5 * x[:, 4]
    assert abs(np.corrcoef(clean, y)[0, 1] - np.sqrt(1 - 1 / 24.8)) < 0.01
    assert abs(y.mean()) < 1e-5 and abs(y.std() - 1) < 1e-5


def test_the_command_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    short = four_programs.PROGRAMS["regression"]()._replace(steps=2)
    monkeypatch.setitem(four_programs.PROGRAMS, "regression", lambda: short)
    monkeypatch.setattr(contenders, "RATES", (1e-2,))
    out = tmp_path / "found.json"
    options = ["--programs", "regression", "--seeds", "1", "--out", str(out)]
    programs.main(["--rules", "sgd", *options])
    found = json.loads(out.read_text())
    rows = found["programs"]["regression"]
    assert found["seeds"] == 1 and list(rows) == [*contenders.adamw([1e-2]), "sgd"]
    assert f"{rows['sgd']['train']:.4g}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        programs.main(["--rules", "adm", *options])
    assert "did you mean adam" in capsys.readouterr().err
