"""A controlled run recorded, and run again without the controller."""

import jax
import numpy as np
import pytest

from learned_opt import io
from learned_opt.controller.actions import TABLES
from learned_opt.controller.lhopt import LHOPT
from learned_opt.controller.recording import read
from learned_opt.controller.schedule import replay
from meta_train.cli import main
from meta_train.learners.ppo.environment import Environment, baseline_losses
from meta_train.learners.ppo.recording import record, without_registers
from tasks.families.synthetic import Quadratic

RULE = LHOPT(dense=4, lstm=4, trunk=4)
ENVIRONMENT = Environment("bowl", Quadratic(dim=3), pauses=5, steps=4)
SEEDS = 3


def restless(key):
    """Weights of a policy that edits at nearly every pause: the rate by 1.414, others at random."""
    theta = RULE.init(key)
    heads = theta["policy"]["heads"]
    draw = lambda i, x: 3.0 * jax.random.normal(jax.random.fold_in(key, i), x.shape)
    for i, name in enumerate(sorted(heads)):
        heads[name]["last"] = jax.tree.map(lambda x, i=i: draw(i, x), heads[name]["last"])
    rate = heads["01"]["last"]
    rate["b"] = rate["b"].at[5].add(100.0)
    return theta


@pytest.fixture(scope="module")
def recorded():
    theta = restless(jax.random.key(3))
    return *record(RULE, theta, ENVIRONMENT, SEEDS, "restless"), theta


def test_a_recording_says_what_it_is(recorded):
    found, losses, _ = recorded
    assert (found.inner, found.source, found.num_steps) == ("ciao", "bowl", 20)
    assert (found.pauses, found.seeds, found.controller) == (5, SEEDS, "restless")
    assert [*found.start] == [action.name for action in TABLES["small"]] == [*found.runs]
    assert found.logit == ("clip_ratio",)
    assert losses.shape == (SEEDS, 5) and np.isfinite(losses).all()
    for action in TABLES["small"]:
        before = np.full((SEEDS, 1), found.start[action.name])
        values = np.concatenate([before, found.runs[action.name]], axis=1)
        line = found.on_line(action.name, values)
        edits = np.log(action.edits) if action.kind == "factor" else np.array(action.edits)
        gaps = np.abs(np.diff(line)[..., None] - edits).min(-1)
        inside = (values[:, 1:] > action.lower * 1.01) & (values[:, 1:] < action.upper * 0.99)
        assert (gaps[inside] < 1e-3).all()
    rates = 1e-3 * 1.414 ** np.arange(1, 6)
    np.testing.assert_allclose(found.values["learning_rate"], rates, rtol=1e-5)
    assert any(len({*found.runs[name][0]}) > 1 for name in found.runs if name != "learning_rate")


def test_replayed_on_its_own_task_it_is_the_same_run(recorded):
    """Task, start and minibatches of one seed: every validation loss comes out again."""
    found, losses, _ = recorded
    one = {name: runs[1:2] for name, runs in found.runs.items()}
    tx = replay(type(found)(**{**vars(found), "runs": one}), 20, form="constant")
    cfg_key, run_key = jax.random.split(jax.random.split(jax.random.key(0), SEEDS)[1])

    @jax.jit
    def again():
        cfg = ENVIRONMENT.family.sample(cfg_key)
        return baseline_losses(ENVIRONMENT, tx, ENVIRONMENT.family.load(), cfg, run_key)

    found_again = again()
    np.testing.assert_allclose(found_again[1:], losses[1], rtol=1e-4)
    assert losses[1, -1] != pytest.approx(float(found_again[0]), rel=1e-2)


def test_registers_stay_unused(recorded):
    *_, theta = recorded
    tamed = without_registers(RULE, theta)
    first = lambda t: np.asarray(t["policy"]["heads"]["00"]["last"]["b"])
    assert first(tamed).argmax() == 0 and first(tamed)[0] > 1e8
    np.testing.assert_array_equal(first(tamed)[1:], first(theta)[1:])
    plain = LHOPT(registers=0, dense=4, lstm=4, trunk=4)
    weights = plain.init(jax.random.key(0))
    assert without_registers(plain, weights) is weights


def test_the_command_records_a_file_that_others_read(recorded, tmp_path, capsys):
    weights, out = tmp_path / "restless.safetensors", tmp_path / "new" / "bowl.json"
    io.write(weights, RULE, recorded[2], {})
    command = ["schedule", "record", str(weights), "quadratic", "dim=3", "--out", str(out)]
    assert main([*command, "--steps", "20", "--pauses", "5", "--seeds", str(SEEDS)]) == 0
    assert "ciao under restless on quadratic: 3 runs of 20 updates" in capsys.readouterr().out
    for name, runs in recorded[0].runs.items():
        np.testing.assert_allclose(read(out).runs[name], runs, rtol=1e-5)
    for words, message in (
        (["--steps", "21", "--pauses", "5"], "--steps: 21 is not allowed"),
        (["dimm=3"], "did you mean dim"),
        (["dim=0"], "dim: 0"),
    ):
        assert main([*command[:4], *words]) == 2
        assert message in capsys.readouterr().err
    # A field that is a list is taken as such: what is wrong here is the number of steps.
    command = ["schedule", "record", str(weights), "mlp_classifier", "widths=[4, 4]"]
    assert main([*command, "--steps", "21", "--pauses", "5"]) == 2
    assert "--steps: 21 is not allowed" in capsys.readouterr().err
    assert main(["schedule", "record", "hierarchical_rnn", "quadratic"]) == 2
    assert "is an update rule, not a controller" in capsys.readouterr().err
