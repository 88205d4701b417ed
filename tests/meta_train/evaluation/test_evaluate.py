import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.base import EvalPoint
from learned_opt.hand.spec import HandDesigned
from learned_opt.registry import HAND_DESIGNED
from meta_train.evaluation import evaluate as module
from meta_train.evaluation.evaluate import (
    Entry,
    Report,
    evaluate,
    selection_score,
    standard_baselines,
)
from meta_train.evaluation.results import ResultsError
from tasks.base import Task

LOADS = []


@dataclass(frozen=True)
class Bowl:
    """0.5 mean (w - target)^2 - 1 with minibatch noise on the target; test is the same, plus 1."""

    name: str = "bowl"
    size: int = 3
    bounded: bool = True

    def load(self):
        LOADS.append(self.name)
        return jnp.full((self.size,), 2.0)

    def sample(self, key):
        return jax.random.normal(key, (self.size,))

    def task(self, cfg, data):
        def loss(params, key, batch):
            del key
            offset, noise = batch
            return 0.5 * jnp.mean((params["w"] - data - cfg - noise) ** 2) - 1.0 + offset

        def batch(key, split):
            del split
            return jnp.zeros(()), 0.1 * jax.random.normal(key, (self.size,))

        def whole(split):
            return jnp.asarray(1.0 if split == "test" else 0.0), jnp.zeros(self.size)

        return Task(
            init=lambda key: {"w": jax.random.normal(key, (self.size,))},
            batch=batch,
            whole=whole,
            loss=loss,
            lower_bound=-1.0 if self.bounded else None,
        )


@dataclass(frozen=True)
class Rate:
    """A tiny learned rule: sgd whose rate is theta, decayed to 0 over the horizon."""

    decays: bool = True

    def init(self, key):
        del key
        return {"rate": jnp.float32(0.5)}

    def opt(self, theta, horizon, key=None, learning_rate=None):
        assert key is None, "evaluation must not draw random starts"
        rate = theta["rate"] if learning_rate is None else learning_rate

        def init(params):
            del params
            return jnp.zeros((), jnp.int32)

        def update(updates, state, params=None, *, value, **extra):
            del params, value, extra
            scale = 1.0 - state / horizon if self.decays else 1.0
            return jax.tree.map(lambda g: -rate * scale * g, updates), state + 1

        return optax.GradientTransformationExtraArgs(init, update)


RULE = Entry("rule", Rate(), {"rate": np.float32(0.5)})


def adam_grid():
    return standard_baselines(["adam"])[0]


@pytest.fixture(scope="module")
def report():
    entries = [
        RULE,
        Entry("hot", Rate(), {"rate": np.float32(1e4)}),
        *standard_baselines(["adam", "adam_1e-3"]),
    ]
    return evaluate(entries, [Bowl(), Bowl("wide", 5, bounded=False)], seeds=2, steps=40, points=8)


def test_shapes_and_names(report):
    assert report.optimizers == ("rule", "hot", "adam (tuned)", "adam_1e-3")
    assert report.tasks == ("bowl", "wide")
    assert report.eval_steps == tuple(range(0, 41, 5))
    assert report.train_loss.shape == report.test_loss.shape == (4, 2, 2, 9)
    assert list(report.forms.values()) == ["learned", "learned", "constant", "constant"]
    assert report.seconds_per_step.shape == (4, 2)
    assert (report.seconds_per_step > 0).all()
    assert report.lower_bound[0].tolist() == [-1.0, -1.0]
    assert np.isnan(report.lower_bound[1]).all()


def test_all_optimizers_start_from_the_same_losses(report):
    assert (report.train_loss[..., 0] == report.train_loss[:1, ..., 0]).all()
    assert len(set(report.train_loss[0, 0, :, 0])) == 2


def test_train_and_test_are_told_apart(report):
    fine = ~report.diverged
    assert np.allclose(report.test_loss[fine] - report.train_loss[fine], 1.0, atol=1e-5)


def test_a_curve_equals_plain_optax_without_noise():
    """Against a hand-written loop: gradient descent on the noise-free bowl is a power law."""

    @dataclass(frozen=True)
    class Quiet(Bowl):
        def task(self, cfg, data):
            task = Bowl.task(self, cfg, data)
            return task._replace(batch=lambda key, split: task.whole(split))

    entry = Entry("sgd", Rate(decays=False), {"rate": np.float32(0.3)})
    report = evaluate([entry], [Quiet()], seeds=1, steps=6, points=3)
    excess = report.train_loss[0, 0, 0] + 1.0
    shrink = (1.0 - 0.3 / 3) ** 2  # of the loss per step: the mean is over three coordinates
    assert excess == pytest.approx(excess[0] * shrink ** np.array([0, 2, 4, 6]), rel=1e-4)


def test_an_untuned_entry_equals_its_rate_in_the_grid(report):
    """Both come from one program, and 1e-3 is a rate of the grid."""
    grid = report.grids["adam (tuned)"]
    at = grid.trials.index({"learning_rate": 1e-3})
    for task in range(2):
        final = report.train_loss[3, task, :, -1].mean()
        assert grid.final_loss[task][at] == pytest.approx(final, rel=1e-6)
        tried = report.trial_loss["adam (tuned)"][at, task]
        np.testing.assert_allclose(tried, report.train_loss[3, task], rtol=1e-6)


def test_the_grid_takes_the_best_rate_for_each_task(report):
    grid = report.grids["adam (tuned)"]
    rates = [trial["learning_rate"] for trial in grid.trials]
    assert len(rates) == 15
    assert rates[0] == 1e-7 and rates[-1] == 1.0
    for task, finals in enumerate(grid.final_loss):
        assert grid.chosen[task] == int(np.argmin(finals))
        assert report.train_loss[2, task, :, -1].mean() == pytest.approx(min(finals))


def test_validation_chooses_by_the_test_loss(report):
    """Test is training plus one: the same trials are taken, and losses are one apart."""
    found = report.validation
    assert found.chosen[2].tolist() == list(report.grids["adam (tuned)"].chosen)
    fine = ~report.diverged
    np.testing.assert_allclose(
        found.loss[fine], report.train_loss[..., -1][fine] + 1.0, rtol=0, atol=1e-5
    )
    assert found.compared == 2 and found.close(2) == 2 and found.close(1) == 0
    assert report.trial_test_loss["adam (tuned)"].shape == (15, 2, 2, 9)


def test_all_trials_are_timed(report):
    seconds = np.array(report.grids["adam (tuned)"].seconds)
    assert seconds.shape == (2, 15)
    assert np.median(seconds, axis=1) == pytest.approx(report.seconds_per_step[2])
    assert report.timing_spread == pytest.approx(
        np.median(seconds.max(axis=1) / seconds.min(axis=1))
    )


def test_any_optimizer_can_be_the_yardstick(report, tmp_path):
    assert report.against("adam").yardstick == report.yardstick == 2
    other = report.against("adam_1e-3")
    assert other.yardstick == 3 and other.verdicts[3].speedup == 1.0
    ratio = report.scores.ratio[:, 0]
    np.testing.assert_allclose(other.scores.ratio[:, 0], ratio / ratio[3], rtol=1e-9)
    other.save(tmp_path)
    assert Report.load(tmp_path).yardstick == 3
    with pytest.raises(ValueError, match=r"unknown name 'adm'; did you mean adam\?"):
        report.against("adm")


def test_diverged_runs_are_kept_and_counted(report):
    assert report.diverged[1].all()
    assert not report.diverged[[0, 2, 3]].any()
    verdict = report.verdicts[1]
    assert verdict.diverged == 4
    assert verdict.speedup == 0.0 and verdict.reached == 0
    assert report.ranking[-1] == 1
    assert verdict.ratio > 1.0


def test_a_grid_never_picks_a_rate_that_diverges():
    entry = Entry(
        "rates", Rate(), RULE.theta, trials=({"learning_rate": 1e4}, {"learning_rate": 0.5})
    )
    report = evaluate([entry], [Bowl()], seeds=2, steps=20)
    assert report.grids["rates"].chosen == (1,)
    assert report.grids["rates"].final_loss[0][0] is None
    assert not report.diverged.any()


def test_results_do_not_depend_on_the_company(report):
    alone = evaluate([RULE], [Bowl()], seeds=2, steps=40, points=8)
    assert np.allclose(alone.train_loss[0, 0], report.train_loss[0, 0], rtol=1e-6)
    other = evaluate([RULE], [Bowl()], seeds=[1], steps=40, points=8)
    assert np.allclose(other.train_loss[0, 0, 0], report.train_loss[0, 0, 1], rtol=1e-6)


def test_losses_are_taken_at_the_point_to_evaluate():
    def make(learning_rate, horizon):
        del learning_rate, horizon

        def update(updates, state, params):
            return jax.tree.map(lambda g: g + 100.0, updates), EvalPoint(params)

        return optax.GradientTransformation(EvalPoint, update)

    entry = Entry("lookahead", HandDesigned("far", make, 1.0), {"log_learning_rate": 0.0})
    report = evaluate([entry], [Bowl()], seeds=1, steps=1)
    assert report.train_loss[0, 0, 0, 0] == report.train_loss[0, 0, 0, 1]


def test_save_and_load(report, tmp_path):
    report.save(tmp_path)
    loaded = Report.load(tmp_path)
    np.testing.assert_array_equal(loaded.train_loss, report.train_loss)
    np.testing.assert_array_equal(loaded.test_loss, report.test_loss)
    np.testing.assert_array_equal(loaded.lower_bound, report.lower_bound)
    assert loaded.grids == report.grids
    assert loaded.verdicts == report.verdicts
    assert loaded.settings == report.settings and loaded.versions == report.versions
    assert list(loaded.trial_loss) == ["adam (tuned)"]
    np.testing.assert_array_equal(
        loaded.trial_loss["adam (tuned)"], report.trial_loss["adam (tuned)"]
    )
    np.testing.assert_array_equal(
        loaded.trial_test_loss["adam (tuned)"], report.trial_test_loss["adam (tuned)"]
    )
    loaded.save(tmp_path / "again")
    for name in ("results.json", "results.parquet", "trials.parquet"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_results_of_the_first_version_are_read(report, tmp_path):
    """They knew grids of rates only, named the chosen rate, had no trials.parquet and no times."""
    import json

    import pyarrow.parquet as pq

    report.save(tmp_path)
    (tmp_path / "trials.parquet").unlink()
    table = pq.read_table(tmp_path / "results.parquet")
    about = json.loads(table.schema.metadata[b"learned_opt.report"])
    del about["scored_against"]
    for grid in about["grids"].values():
        del grid["seconds"]
        grid["learning_rates"] = [trial["learning_rate"] for trial in grid.pop("trials")]
        grid["chosen"] = [grid["learning_rates"][number] for number in grid["chosen"]]
    old = table.replace_schema_metadata({b"learned_opt.report": json.dumps(about).encode()})
    pq.write_table(old, tmp_path / "results.parquet")
    loaded = Report.load(tmp_path)
    grid = report.grids["adam (tuned)"]
    assert loaded.grids == {"adam (tuned)": dataclasses.replace(grid, seconds=())}
    assert loaded.trial_loss == {} and loaded.validation is None and np.isnan(loaded.timing_spread)
    np.testing.assert_array_equal(loaded.scores.speedup, report.scores.speedup)
    assert np.isnan(loaded.scores.envelope_speedup).all()


def test_trials_without_test_losses_are_read(report, tmp_path):
    import json

    import pyarrow.parquet as pq

    report.save(tmp_path)
    path = tmp_path / "trials.parquet"
    pq.write_table(pq.read_table(path).drop_columns("test_loss"), path)
    loaded = Report.load(tmp_path)
    assert list(loaded.trial_loss) == ["adam (tuned)"] and loaded.validation is None
    loaded.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "results.json").read_text())["validation"] is None
    assert Report.load(tmp_path / "again").trial_test_loss == {}


def test_trials_of_other_results_are_refused(report, tmp_path):
    report.save(tmp_path)
    alone = evaluate([RULE], [Bowl()], seeds=1, steps=40, points=8)
    alone.save(tmp_path / "alone")
    assert not (tmp_path / "alone" / "trials.parquet").exists()
    (tmp_path / "trials.parquet").rename(tmp_path / "alone" / "trials.parquet")
    with pytest.raises(ResultsError, match="trials.parquet"):
        Report.load(tmp_path / "alone")


def test_json_is_strict_and_names_the_yardstick(report, tmp_path):
    import json

    report.save(tmp_path)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    found = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert found["yardstick"] == "adam (tuned)"
    assert found["verdicts"]["hot"]["diverged"] == 4
    assert np.shape(found["final_train_loss"]) == (4, 2, 2)
    assert np.shape(found["validation"]["final_loss"]) == (4, 2, 2)
    assert found["validation"]["verdicts"]["adam (tuned)"] == {"ratio": 1.0, "within": 2}
    assert found["validation"]["chosen"] == {
        "adam (tuned)": list(report.grids["adam (tuned)"].chosen)
    }


@pytest.mark.parametrize("damage", ["missing", "foreign", "truncated", "rows", "text"])
def test_damaged_results_are_refused(report, tmp_path, damage):
    import pyarrow as pa
    import pyarrow.parquet as pq

    report.save(tmp_path)
    path = tmp_path / "results.parquet"
    if damage == "missing":
        path.unlink()
    elif damage == "foreign":
        pq.write_table(pa.table({"a": [1]}), path)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "rows":
        table = pq.read_table(path)
        pq.write_table(table.slice(0, 5), path)
    else:
        path.write_text("not parquet")
    with pytest.raises(ResultsError, match="results.parquet"):
        Report.load(tmp_path)


def test_points_divide_the_steps():
    assert module._points(500, 50) == 50
    assert module._points(120, 50) == 40
    assert module._points(3, 50) == 3
    with pytest.raises(ValueError, match="take 1000"):
        module._points(997, 50)
    with pytest.raises(ValueError, match="steps: 0"):
        module._points(0, 50)


@pytest.mark.parametrize(
    ("entries", "seeds", "message"),
    [([], 1, "nothing"), ([RULE, RULE], 1, "'rule' is given twice"), ([RULE], 0, "seeds")],
)
def test_refusals(entries, seeds, message):
    with pytest.raises(ValueError, match=message):
        evaluate(entries, [Bowl()], seeds=seeds, steps=5)


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="did you mean rmsprop"):
        standard_baselines(["rmsprob"])
    with pytest.raises(ValueError, match="suite: unknown name 'heldout_smal'"):
        evaluate([RULE], "heldout_smal", seeds=1, steps=5)


def test_baselines_by_default_are_all():
    names = [entry.name for entry in standard_baselines()]
    assert names == [
        "adam (tuned)",
        "adamw+warmup_cosine (tuned)",
        "adam_1e-3",
        "relative_adam",
        "relative_soap",
    ]


def test_selection_score_orders_rules_and_punishes_divergence():
    scores = [
        selection_score(Rate(), {"rate": jnp.float32(rate)}, [Bowl()], seeds=2, steps=30)
        for rate in (0.01, 0.5, 1e4)
    ]
    assert scores[1] < scores[0] < 0.0
    assert scores[2] == 10.0


def test_selection_score_loads_and_traces_once():
    traces = []

    @dataclass(frozen=True)
    class Counted(Rate):
        def opt(self, theta, horizon, key=None, learning_rate=None):
            traces.append(theta)
            return Rate.opt(self, theta, horizon, key, learning_rate)

    family = Bowl("once", 4)
    selection_score(Counted(), {"rate": jnp.float32(0.1)}, [family], steps=10)
    count = len(traces)
    selection_score(Counted(), {"rate": np.float32(0.2)}, [family], steps=10)
    assert len(traces) == count
    assert LOADS.count("once") == 1


def test_selection_score_is_the_reports_log_progress():
    report = evaluate([RULE], [Bowl()], seeds=2, steps=30, points=1)
    above = report.train_loss[0, 0] + 1.0
    expected = np.mean(np.log(above[:, -1] / above[:, 0]))
    assert selection_score(RULE.optimizer, RULE.theta, [Bowl()], 2, 30) == pytest.approx(
        expected, abs=1e-4
    )


def test_selection_score_is_the_mean_over_lengths_and_splits():
    @dataclass(frozen=True)
    class Calm(Bowl):
        """Without minibatch noise: lengths that share a program draw other minibatches."""

        valid: float = 0.0  # what the outer_valid loss is higher by

        def task(self, cfg, data):
            def whole(split):
                offset = self.valid if split == "outer_valid" else 0.0
                return jnp.asarray(offset), jnp.zeros(self.size)

            calm = lambda key, split: (jnp.zeros(()), jnp.zeros(self.size))
            return Bowl.task(self, cfg, data)._replace(batch=calm, whole=whole)

    def score(*steps):
        return selection_score(RULE.optimizer, RULE.theta, [Calm(valid=7.0)], 2, steps)

    assert score(4, 12) == pytest.approx((score(4) + score(12)) / 2, rel=1e-5)
    assert score(12) < score(4)
    report = evaluate([RULE], [Calm()], seeds=2, steps=12, points=1)
    above = report.train_loss[0, 0] + 1.0
    both = [np.log((above + offset)[:, 1] / (above + offset)[:, 0]) for offset in (0.0, 7.0)]
    assert score(12) == pytest.approx(np.mean(both), abs=1e-4)


def test_hand_designed_rules_are_the_registry(report):
    for entry in standard_baselines():
        plain = entry.name.partition("+")[0].removesuffix(" (tuned)")
        if "+" in entry.name:
            assert dataclasses.replace(entry.optimizer, chosen="{}") == HAND_DESIGNED[plain]
        else:
            assert entry.optimizer in HAND_DESIGNED.values()
