"""The loop around a small learner: when things happen, and that stopping changes nothing."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.toys import Descent

from meta_train.learners.gradient import MetaTrainState
from meta_train.progress import Progress
from meta_train.run.checkpoint import Checkpoints
from meta_train.run.curriculum import Curriculum
from meta_train.run.loop import Loop, Plan, begin


def fake_state(step, theta, key):
    empty = MetaTrainState(*[()] * len(MetaTrainState._fields))
    return empty._replace(step=step, theta=theta, key=key)


class FakeLearner:
    """theta["w"] is a random walk; nothing but the state decides where it goes."""

    inner_steps = 10
    optimizer = Descent()

    def __init__(self, nonfinite_at: int = -1) -> None:
        self.steps_made = 0

        def step(state):
            draw = jax.random.normal(jax.random.fold_in(state.key, state.step), (3,))
            theta = {"w": state.theta["w"] + draw}
            loss = jnp.where(state.step == nonfinite_at, jnp.nan, jnp.sum(theta["w"]))
            metrics = {"meta/loss": loss, "tasks/fake/objective": loss}
            return fake_state(state.step + 1, theta, state.key), metrics

        self._step = jax.jit(step, donate_argnums=0)

    def load(self):
        return ()

    def init(self, key, data, theta=None):
        return fake_state(jnp.zeros((), jnp.int32), {"w": jnp.zeros(3)}, key)

    def take_over(self, state, data):
        return state

    def prepare(self, data):
        pass

    def place(self, state):
        return jax.tree.map(jnp.asarray, state)

    def step(self, state, data):
        self.steps_made += 1
        return self._step(state)

    def theta(self, state):
        return state.theta


class ListSink:
    def __init__(self) -> None:
        self.lines = []
        self.closed = None

    def scalars(self, step, values):
        self.lines.append((step, dict(values)))

    def histograms(self, rows):
        raise AssertionError("nothing records")

    def close(self, failed=False):
        self.closed = failed


def score(theta) -> float:
    return float(np.abs(theta["w"]).sum())


def make(plan, learner=None, save=lambda step, state: None, stopped=lambda: False, scorer=score):
    learner = learner or FakeLearner()
    sink, stream = ListSink(), io.StringIO()
    loop = Loop(
        Curriculum([0], lambda stage: learner),
        plan,
        scorer,
        save,
        stopped,
        [sink],
        Progress(stream, plan.steps),
    )
    state = begin(learner, learner.init(jax.random.key(0), ()))
    return loop, state, sink, stream


def numbers(lines):
    """What a run logs, less the times."""
    return [
        (step, {name: value for name, value in values.items() if not name.startswith("time/")})
        for step, values in lines
    ]


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_every_step_is_logged_once_in_order_and_speed_once_per_transfer():
    loop, state, sink, _ = make(Plan(steps=10, log_every=4))
    end = loop.run(state)
    assert [step for step, _ in sink.lines] == list(range(1, 11))
    fast = [step for step, values in sink.lines if "time/inner_steps_per_second" in values]
    assert fast == [4, 8, 10]
    assert int(end.learner.step) == 10 and loop.learner.steps_made == 10


def test_metrics_come_in_one_transfer_every_few_steps(monkeypatch):
    fetched = []
    real = jax.device_get
    loop, state, *_ = make(Plan(steps=20, log_every=5))
    monkeypatch.setattr(jax, "device_get", lambda tree: fetched.append(1) or real(tree))
    loop.run(state)
    assert len(fetched) == 1 + 4  # the first step alone, then every fifth


def test_the_best_weights_are_those_of_the_lowest_score():
    seen = {}

    def remember(theta):
        value = score(theta)
        seen[len(seen)] = (value, theta["w"].copy())
        return value

    plan = Plan(steps=25, evaluate_every=10)
    loop, state, sink, stream = make(plan, scorer=remember)
    end = loop.run(state)
    scores = [(step, v["eval/score"]) for step, v in sink.lines if "eval/score" in v]
    assert [step for step, _ in scores] == [10, 20, 25]  # the last step counts
    step, lowest = min(scores, key=lambda pair: pair[1])
    assert int(end.best.step) == step and float(end.best.score) == lowest
    value, weights = min(seen.values(), key=lambda pair: pair[0])
    np.testing.assert_array_equal(end.best.theta["w"], weights)
    assert "selection score" in stream.getvalue()


def test_the_time_left_has_the_evaluations_to_come():
    plan = Plan(steps=25, evaluate_every=10)
    assert [plan.evaluations_after(step) for step in (0, 9, 10, 24, 25)] == [3, 3, 2, 1, 0]
    assert Plan(steps=20, evaluate_every=10).evaluations_after(0) == 2
    assert Plan(steps=20).evaluations_after(0) == 0
    lefts = []
    loop, state, *_ = make(Plan(steps=5, evaluate_every=2, log_every=1), scorer=lambda theta: 1.0)
    loop._evaluations.append(1e6)
    loop.progress.update = lambda step, metrics, rate, left: lefts.append(left)
    loop.run(state)
    assert lefts[0] > 2e5 and lefts[-1] == 0.0


def test_a_score_that_is_not_a_number_never_wins():
    loop, state, *_ = make(Plan(steps=4, evaluate_every=2), scorer=lambda theta: float("nan"))
    end = loop.run(state)
    assert int(end.best.step) == -1 and float(end.best.score) == np.inf


@pytest.mark.parametrize("cut", [0, 1, 6, 7, 8, 12])
def test_a_run_stopped_anywhere_goes_on_as_if_it_had_not_been(tmp_path, cut):
    plan = Plan(steps=12, log_every=5, evaluate_every=4, save_every=3)
    loop, state, whole, _ = make(plan)
    expected = loop.run(state)

    checkpoints = Checkpoints(tmp_path / "c")
    learner = FakeLearner()
    loop, state, first, _ = make(
        plan, learner, checkpoints.save, stopped=lambda: learner.steps_made >= cut
    )
    loop.run(state)
    checkpoints.wait()
    assert checkpoints.latest() == cut == loop.step

    learner = FakeLearner()
    loop, template, second, _ = make(plan, learner, checkpoints.save)
    restored = checkpoints.restore(cut, template)
    restored = restored._replace(learner=learner.place(restored.learner))
    same(loop.run(restored), expected)
    assert numbers(first.lines + second.lines) == numbers(whole.lines)
    checkpoints.close()


def test_a_request_to_stop_while_evaluating_ends_the_run_right_after():
    asked = []

    def slow(theta):
        asked.append(1)
        return 1.0

    saved = []
    loop, state, *_ = make(
        Plan(steps=100, evaluate_every=5),
        save=lambda step, state: saved.append((step, int(state.evaluated))),
        stopped=lambda: bool(asked),
        scorer=slow,
    )
    loop.run(state)
    assert loop.step == 5 and saved == [(5, 5)]


def test_saves_come_by_steps_by_seconds_and_at_the_end():
    def steps_saved(plan):
        saved = []
        loop, state, *_ = make(plan, save=lambda step, state: saved.append(step))
        loop.run(state)
        return saved

    assert steps_saved(Plan(steps=7)) == [7]
    assert steps_saved(Plan(steps=7, save_every=3)) == [0, 3, 6, 7]
    assert steps_saved(Plan(steps=4, save_seconds=1e-9)) == [0, 1, 2, 3, 4]


def test_everything_up_to_a_checkpoint_is_logged_before_it():
    logged = []
    plan = Plan(steps=9, log_every=100, save_every=4)
    loop, state, sink, _ = make(
        plan, save=lambda step, state: logged.append((step, [s for s, _ in sink.lines]))
    )
    loop.run(state)
    assert logged == [(step, list(range(1, step + 1))) for step in (0, 4, 8, 9)]


def test_a_finished_run_has_nothing_left_to_do():
    plan = Plan(steps=3)
    loop, state, *_ = make(plan)
    end = loop.run(state)
    again, _, sink, _ = make(plan)
    same(again.run(end), end)
    assert sink.lines == [] and again.learner.steps_made == 0


def test_a_loss_that_is_not_finite_does_not_stop_the_run():
    loop, state, sink, _ = make(Plan(steps=5), FakeLearner(nonfinite_at=2))
    loop.run(state)
    assert [np.isfinite(values["meta/loss"]) for _, values in sink.lines] == [
        True, True, False, True, True,
    ]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines_of(stream, clock):
    progress = Progress(stream, 100, clock)
    for step in range(1, 11):
        metrics = {"meta/loss": 1.5, "tasks/a/objective": -0.25, "tasks/a/grad_norm": 3.0}
        progress.update(step, metrics, 12345.6, 3725.0)
    progress.say("a note")
    progress.close()
    return stream.getvalue()


def test_a_terminal_gets_one_line_that_is_rewritten():
    times = iter(range(1000))
    text = lines_of(Terminal(), lambda: float(next(times)))
    assert text.count("\r\x1b[2K") == 11 and text.count("\n") == 2
    assert "10/100  meta 1.5  a -0.25  12,346 inner steps/s  1h02m left" in text


def test_a_file_gets_plain_lines_and_not_too_many():
    times = iter(range(1000))
    text = lines_of(io.StringIO(), lambda: float(next(times)))
    assert "\r" not in text and "\x1b" not in text
    assert 3 <= text.count("\n") <= 6
    assert text.splitlines()[0].startswith("1/100") and "10/100" in text.splitlines()[-1]


def test_a_reader_that_went_away_does_not_stop_the_run():
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    lines_of(Closed(), lambda: 0.0)
