"""What sweeps change, against closed forms; what is kept of them and shown."""

import json
import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.reports import make_report

from learned_opt.registry import HAND_DESIGNED
from meta_train.cli import main
from meta_train.evaluation import robustness as module
from meta_train.evaluation.evaluate import Entry
from meta_train.evaluation.results import ResultsError
from meta_train.evaluation.robustness import SWEEPS, check, run
from meta_train.evaluation.robustness_results import Robustness
from meta_train.reports import evaluation as reports, robustness as pages
from tasks.families.convex import IsotropicQuadratic
from tasks.families.mlp import MLPClassifier

SQUARES = IsotropicQuadratic((2,), name="squares")  # x^2: its gradient step multiplies x
TINY = MLPClassifier(image_size=4, widths=(3,), batch_size=4, name="tiny")


@dataclass(frozen=True)
class Shrink:
    """Multiplies what it trains by 1 - learning_rate, by default 1 / horizon."""

    def init(self, key):
        del key
        return {}

    def opt(self, theta, horizon, key=None, learning_rate=None):
        del theta, key
        rate = 1.0 / horizon if learning_rate is None else learning_rate
        return optax.with_extra_args_support(
            optax.stateless(lambda updates, params: jax.tree.map(lambda p: -rate * p, params))
        )


SHRINK = Entry("shrink", Shrink(), {"unused": np.float32(0)})


def hand_designed(name):
    return Entry(name, HAND_DESIGNED[name], HAND_DESIGNED[name].init(jax.random.key(0)))


def ends(name):
    """The first and the last value of a sweep, and what they make of a task."""
    sweep = SWEEPS[name]
    return {value: sweep.family(TINY, value) for value in (sweep.values[0], sweep.values[-1])}


def of_shapes(family, part):
    """Shapes of the parameters or of a minibatch, without computing anything."""

    def build(key):
        task = family.task(family.sample(key), data)
        return task.init(key) if part == "params" else task.batch(key, "train")

    data = jax.device_put(family.load())
    return [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(build, jax.random.key(0)))]


def test_sweeps_change_the_sizes_they_name():
    for width, family in ends("width").items():
        assert set(of_shapes(family, "params")) == {(width,), (16, width), (10,), (width, 10)}
    for depth, family in ends("depth").items():
        assert of_shapes(family, "params").count((3, 3)) == depth - 1
    for size, family in ends("batch").items():
        assert {shape[0] for shape in of_shapes(family, "batch")} == {size}


def test_sweeps_change_the_units_they_name():
    """At the same start: the loss s times as large; the parameters s times, the loss the same."""
    data = jax.device_put(TINY.load())

    @jax.jit
    def starts(key):
        def start(family):
            task = family.task(family.sample(key), data)
            params = task.init(key)
            weights = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])
            return task.loss(params, key, task.whole("train")), jnp.linalg.norm(weights)

        plain = [start(TINY)]
        scaled = [start(family) for family in ends("gradient_scale").values()]
        moved = [start(family) for family in ends("parameter_scale").values()]
        return [jnp.asarray(list(zip(*part, strict=True))) for part in (plain, scaled, moved)]

    plain, scaled, moved = (np.asarray(part) for part in starts(jax.random.key(0)))
    scales = [1e-3, 1e3]
    np.testing.assert_allclose(scaled / plain, [scales, [1, 1]], rtol=1e-4)
    np.testing.assert_allclose(moved / plain, [[1, 1], scales], rtol=1e-4)


@pytest.mark.slow
def test_a_gradient_in_other_units_moves_only_what_depends_on_units(monkeypatch):
    small = SWEEPS["gradient_scale"]._replace(values=(1e-3, 1.0, 1e3), families=(SQUARES,))
    monkeypatch.setitem(SWEEPS, "gradient_scale", small)
    entries = [hand_designed("relative_adam"), hand_designed("sgd")]
    found = run("gradient_scale", entries, seeds=2, steps=5)
    assert found.points == ("1e-3", "1", "1000") and found.reference == 1
    invariant, sgd = found.by_point.T
    np.testing.assert_allclose(invariant, invariant[1], rtol=1e-3)
    assert sgd[0] > 0.99 and sgd[1] < 0.7 and sgd[2] == pytest.approx(10.0)
    assert found.diverged[2, 1].all() and not found.diverged[:2].any()
    invariant, sgd = found.summaries
    assert invariant.spread == pytest.approx(1.0, rel=1e-3) and invariant.diverged == 0
    assert sgd.worst == pytest.approx(10.0) and sgd.worst_point == "1000"
    assert (sgd.near, sgd.diverged) == (2, 2)


def test_a_horizon_and_a_rate_are_those_the_point_says(monkeypatch):
    """Closed form: n steps of `Shrink` leave (1 - rate)^(2n) of x^2."""
    for name in ("horizon", "learning_rate"):
        monkeypatch.setitem(SWEEPS, name, SWEEPS[name]._replace(families=(SQUARES,)))
    found = run("horizon", [SHRINK], seeds=1, steps=20)
    assert found.optimizers == ("shrink", "shrink, given 20")
    assert found.points == ("0.5", "1", "4")
    assert found.eval_steps[:, -1].tolist() == [10, 20, 80]
    expected = [[0.9**20, 0.95**20], [0.95**40] * 2, [(1 - 1 / 80) ** 160, 0.95**160]]
    np.testing.assert_allclose(found.by_point, expected, rtol=1e-4)

    found = run("learning_rate", [SHRINK], seeds=1, steps=20)
    rates = np.array([1 / 20, *module.HALF_DECADES])
    assert found.points[:3] == ("own", "1e-5", "3.16e-5") and found.points[-1] == "10"
    expected = np.clip((1 - rates) ** 40, 1e-7, 10.0)
    np.testing.assert_allclose(found.by_point[:, 0], expected, rtol=1e-3)


@pytest.fixture(scope="module")
def outcome():
    """Two points, two optimizers, one task, two seeds; one run diverged."""
    final = np.array([[[[0.5, 0.125]], [[0.5, 0.5]]], [[[0.25, 0.25]], [[np.nan, 0.4]]]])
    start = np.full_like(final, 2.0)
    return Robustness(
        sweep="batch",
        about="As many examples.",
        axis="examples in a minibatch",
        points=("8", "32"),
        reference=1,
        optimizers=("mine <b>", "other"),
        tasks=("task",),
        seeds=(0, 1),
        eval_steps=np.array([[0, 50], [0, 50]]),
        lower_bound=np.full((2, 1, 2), -1.0),
        train_loss=np.stack([start, 3.0 * final - 1.0], axis=-1),
        versions={"jax": "0.0"},
    )


def test_scores_by_hand(outcome):
    np.testing.assert_allclose(outcome.by_point, [[0.25, 0.5], [0.25, 2.0]])
    first, second = outcome.summaries
    assert (first.spread, first.near, first.lowest, first.diverged) == pytest.approx((1, 2, 2, 0))
    assert (second.best, second.best_point, second.worst) == pytest.approx((0.5, "8", 2.0))
    assert (second.spread, second.near, second.lowest) == pytest.approx((1, 2, 0))
    assert second.diverged == 1


def test_every_number_of_the_page_is_in_the_files(outcome, tmp_path):
    import pyarrow.parquet as pq

    outcome.save(tmp_path)
    rows = pq.read_table(tmp_path / "robustness_batch.parquet").to_pylist()
    shown = json.loads((tmp_path / "robustness_batch.json").read_text())
    page = pages.write_html(Robustness.load(tmp_path / "robustness_batch.parquet"), tmp_path)
    text = page.read_text()
    assert "<b>" not in text
    cells = re.findall(r'data-value="([^"]+)"', text)
    for p, point in enumerate(outcome.points):
        for o, optimizer in enumerate(outcome.optimizers):
            ends = [
                row["train_loss"]
                for row in rows
                if (row["point"], row["optimizer"], row["step"]) == (point, optimizer, 50)
            ]
            assert len(ends) == 2
            logs = [np.log((end + 1) / 3) if np.isfinite(end) else np.log(10) for end in ends]
            score = float(np.exp(np.mean(logs)))
            assert shown["final_over_initial"][p][o] == pytest.approx([score])
            assert f"{score:.6g}" in cells


def test_an_evaluation_shows_the_sweeps_in_its_folder(outcome, tmp_path, monkeypatch):
    outcome.save(tmp_path)
    monkeypatch.setattr(reports, "html", lambda report, seen, robustness: "".join(robustness))
    text = reports.write_html(make_report(), tmp_path).read_text()
    assert text == pages.sections(tmp_path)[0]
    assert text.count("<figure>") == 1 and "Robustness: examples in a minibatch" in text


def test_files_that_are_no_sweep_are_refused(tmp_path):
    for content in (None, b"nothing of the kind"):
        path = tmp_path / "robustness_batch.parquet"
        if content:
            path.write_bytes(content)
        with pytest.raises(ResultsError, match="robustness_batch.parquet"):
            Robustness.load(path)


def test_what_cannot_be_run_is_said_at_the_door():
    with pytest.raises(ValueError, match="'widht'; did you mean width"):
        check("widht", [SHRINK], 1, 10)
    with pytest.raises(ValueError, match="steps: 25 is not allowed; 0.5 times it"):
        check("horizon", [SHRINK], 1, 25)
    with pytest.raises(ValueError, match="take 1000"):
        check("width", [SHRINK], 1, 997)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = SWEEPS["gradient_scale"]._replace(values=(1.0, 10.0), families=(SQUARES,))
    monkeypatch.setitem(SWEEPS, "gradient_scale", small)
    command = ["robustness", "adam", "--sweep", "gradient_scale", "--optimizers", "none"]
    assert main([*command, "--seeds", "1", "--steps", "2"]) == 0
    said = capsys.readouterr().out
    assert "adam stays within twice its loss at the reference (1) at 2 of 2 points" in said
    files = {path.name for path in (tmp_path / "results" / "adam-gradient_scale").iterdir()}
    assert files == {f"robustness_gradient_scale.{end}" for end in ("parquet", "json", "html")}
    page = tmp_path / "results" / "adam-gradient_scale" / "robustness_gradient_scale.html"
    drawn = page.read_text()
    page.unlink()
    assert main(["report", str(page.parent)]) == 0
    assert page.read_text() == drawn
    assert main(["robustness", "adam", "--sweep", "bacth"]) == 2
    assert "did you mean batch?" in capsys.readouterr().err
    assert main(["robustness", "relative_adm", "--sweep", "batch"]) == 2
    assert "did you mean relative_adam?" in capsys.readouterr().err
