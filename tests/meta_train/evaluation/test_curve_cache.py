"""What was measured once is not measured again, and only then."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from learned_opt.hand.spec import HandDesigned
from learned_opt.learned.small_fc import SmallFC
from learned_opt.registry import HAND_DESIGNED
from meta_train.evaluation import curve_cache, measure as module
from meta_train.evaluation.curve_cache import CurveCache, Curves, cache_key
from meta_train.evaluation.entries import Entry, Setting, setting, standard_baselines
from meta_train.evaluation.evaluate import Session, evaluate
from meta_train.host import Interrupted
from meta_train.progress import Countdown
from tasks.families.synthetic import Quadratic
from tasks.suites import SUITES, Suite

FAMILY = Quadratic(dim=3, name="first")
ADAM = setting(HAND_DESIGNED["adam"])
ABOUT = dict(family=FAMILY, suite_version=1, setting=ADAM, seeds=(0, 1), steps=4, points=2)


@pytest.fixture
def pair(monkeypatch):
    suite = Suite((FAMILY, Quadratic(dim=2, name="second")), steps=4)
    monkeypatch.setitem(SUITES, "pair", suite)
    return "pair"


@pytest.fixture
def cache(tmp_path):
    return CurveCache(tmp_path / "curves")


def run(suite, cache, names=("sgd_1e-3", "sgd"), **session):
    return evaluate(
        standard_baselines(names), suite, seeds=2, points=2, session=Session(cache, **session)
    )


def programs(monkeypatch):
    """The rules that are compiled from here on."""
    seen, build = [], module.build_program

    def counted(family, optimizer, *rest, **more):
        seen.append((family.name, optimizer.name))
        return build(family, optimizer, *rest, **more)

    monkeypatch.setattr(module, "build_program", counted)
    return seen


def untimed(grids):
    """What was found, without how long it took."""
    return {name: {k: v for k, v in grid.items() if k != "seconds"} for name, grid in grids.items()}


def same(one, two):
    """Times per step included."""
    for name, value in vars(one).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(two, name), err_msg=name)
    assert one.grids == two.grids


def test_a_second_evaluation_compiles_and_runs_nothing(pair, cache, monkeypatch):
    first = run(pair, cache)
    assert len(list(cache.folder.iterdir())) == 2 * 7
    seen = programs(monkeypatch)
    same(run(pair, cache), first)
    assert not seen
    rate = run(pair, cache, ("sgd_0.01",))  # a rate of the grid
    assert not seen
    at = first.grids["sgd (tuned)"].trials.index({"learning_rate": 0.01})
    assert rate.train_loss[0, 0, :, -1].mean() == first.grids["sgd (tuned)"].final_loss[0][at]
    for path in cache.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    again = run(pair, cache, ("sgd_0.01",))
    np.testing.assert_array_equal(again.train_loss, rate.train_loss)
    assert seen == [("first", "sgd"), ("second", "sgd")]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "shapes"])
def test_a_damaged_file_is_no_file(cache, caplog, damage):
    curves = Curves(np.ones((2, 3)), np.ones((2, 3)), np.zeros(2), np.asarray(1e-3))
    cache.store("key", curves)
    path = cache.folder / "key.npz"
    whole = path.read_bytes()
    middle = len(whole) // 3
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    if damage == "shapes":
        cache.store("key", curves._replace(lower_bound=np.zeros(3)))
    else:
        path.write_bytes({"cut": whole[:-50], "flipped": flipped, "empty": b""}[damage])
    assert cache.load("key", 2, 3) is None
    assert "measured again" in caplog.text and str(path) in caplog.text
    cache.store("key", curves)
    np.testing.assert_equal(cache.load("key", 2, 3), curves)


def test_everything_the_numbers_depend_on_is_in_the_key(monkeypatch):
    key = cache_key(**ABOUT)
    assert key == cache_key(**ABOUT)
    cosine = HAND_DESIGNED["adam"].including(schedule="cosine")
    changes = (
        {"family": dataclasses.replace(FAMILY, dim=4)},
        {"suite_version": 2},
        {"setting": setting(HAND_DESIGNED["adam"], learning_rate=2e-3)},
        {"setting": setting(HAND_DESIGNED["adam"], b1=0.8)},
        {"setting": ADAM._replace(learning_rate=np.float32(1e-3))},
        {"setting": ADAM._replace(optimizer=HAND_DESIGNED["adamw"])},
        {"setting": ADAM._replace(optimizer=cosine)},
        {"setting": Setting(SmallFC(hidden=2), ADAM.theta)},
        {"setting": Setting(SmallFC(hidden=3), ADAM.theta)},
        {"seeds": (0, 2)},
        {"steps": 8},
        {"points": 4},
    )
    keys = [cache_key(**(ABOUT | change)) for change in changes]
    assert len({key, *keys}) == len(changes) + 1 and None not in keys
    monkeypatch.setattr(curve_cache, "_code", lambda: "other")
    assert cache_key(**ABOUT) != key


class MyTask(Quadratic):
    pass


class MyRule(SmallFC):
    pass


def test_code_of_others_is_never_cached():
    own = HandDesigned("adam", lambda learning_rate, horizon: None, 1e-3)
    for change in (
        {"family": MyTask(dim=3)},
        {"setting": Setting(MyRule(), ADAM.theta)},
        {"setting": ADAM._replace(optimizer=own)},
    ):
        assert cache_key(**(ABOUT | change)) is None


def test_interrupted_work_goes_on_where_it_was(pair, cache, monkeypatch):
    asked = []

    def stopped():
        asked.append(None)
        return len(list(cache.folder.glob("*"))) >= 4

    with pytest.raises(Interrupted):
        run(pair, cache, stopped=stopped)
    kept = {path: path.stat().st_mtime_ns for path in cache.folder.iterdir()}
    assert len(kept) == 4 and asked
    lines = []
    resumed = run(pair, cache, say=lines.append)
    assert lines[0] == "10 run(s) to go; compiling 2 program(s)"
    assert lines[-1] == "second: 2/2 tasks done, 0 to go"
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    whole = run(pair, None)
    np.testing.assert_array_equal(resumed.train_loss, whole.train_loss)
    assert resumed.grids == whole.grids


def test_a_folder_that_cannot_be_written_to_costs_the_cache_only(pair, tmp_path, caplog):
    (tmp_path / "file").touch()
    report = run(pair, CurveCache(tmp_path / "file" / "curves"), ("sgd_1e-3",))
    assert np.isfinite(report.train_loss).all() and "not kept" in caplog.text


def test_settings_side_by_side_are_the_settings_one_by_one(pair, monkeypatch):
    alone = run(pair, None, ("sgd",))
    monkeypatch.setattr(module, "lanes", lambda: 4)
    together = run(pair, None, ("sgd",))
    np.testing.assert_allclose(together.train_loss, alone.train_loss, rtol=1e-5)
    np.testing.assert_allclose(
        together.grids["sgd (tuned)"].final_loss[0], alone.grids["sgd (tuned)"].final_loss[0], 1e-5
    )


def test_the_countdown_weighs_tasks_by_their_cost():
    lines, now = [], [0.0]
    countdown = Countdown(lines.append, 4, [(2, 1.0), (1, 8.0), (2, 0.5)], 5, lambda: now[0])
    assert lines == ["1 of 4 tasks are in the cache", "5 run(s) to go; compiling 5 program(s)"]
    now[0] = 10.0
    countdown.compiled(5)
    assert lines[-1] == "compiled 5/5 programs"
    now[0] = 14.0
    countdown.ran(2, 2.0, 4.0)
    countdown.finish("a")
    assert lines[-1] == "a: 2/4 tasks done, 2 to go, about 18s left"  # 9 of 11 at 2 s each
    now[0] = 30.0
    countdown.ran(3, 9.0, 18.0)
    countdown.finish("b")
    assert lines[-1] == "b: 3/4 tasks done, 1 to go"


CODE = """
import sys
from tasks.families.synthetic import Quadratic
from tasks.suites import SUITES, Suite
SUITES["two"] = Suite((Quadratic(dim=60, name="a"), Quadratic(dim=61, name="b")), steps=20000)
from meta_train.cli import entry
entry(["evaluate", "relative_adam", "--suite", "two", "--baselines", "sgd", *sys.argv[1:]])
"""


def command(folder: Path, *more: str, **env: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CODE, "--out", str(folder / "out"), *more],
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def result(folder: Path) -> dict:
    return json.loads((folder / "out" / "results.json").read_text())


@pytest.mark.slow
def test_a_killed_command_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    curves = tmp_path / "cache" / "learned-opt" / "curves"
    for number, code in ((signal.SIGTERM, 130), (signal.SIGINT, 130), (signal.SIGKILL, -9)):
        before = len(list(curves.glob("*.npz")))
        process = command(tmp_path)
        while process.poll() is None and len(list(curves.glob("*.npz"))) < before + 2:
            time.sleep(0.005)
        process.send_signal(number)
        _, errors = process.communicate()
        assert process.returncode == code, errors
        if code == 130:
            assert "the same command goes on from there" in errors
    kept = {path: path.stat().st_mtime_ns for path in curves.glob("*.npz")}
    assert 6 <= len(kept) < 16
    assert command(tmp_path).wait() == 0
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert not list(curves.glob(".*"))  # nothing half-written
    assert command(tmp_path / "other", "--cache", "none").wait() == 0
    mended, whole = result(tmp_path), result(tmp_path / "other")
    assert mended["final_train_loss"] == whole["final_train_loss"]
    assert untimed(mended["grids"]) == untimed(whole["grids"])
    assert not (tmp_path / "other" / "cache" / "learned-opt" / "curves").exists()


@pytest.mark.slow
def test_twice_and_with_two_devices_the_table_is_the_same(tmp_path):
    found = []
    for name, devices in (("a", 1), ("b", 1), ("c", 2)):
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
        process = command(
            tmp_path / name, "--cache", "none", "--steps", "2000", "--seeds", "2", XLA_FLAGS=flags
        )
        table, errors = process.communicate()
        assert process.returncode == 0, errors
        found.append(result(tmp_path / name))
    for other in found[1:]:
        assert untimed(other["grids"]) == untimed(found[0]["grids"])
        for part in ("final_train_loss", "final_test_loss", "speedup", "diverged"):
            assert other[part] == found[0][part]


def test_every_entry_can_be_a_baseline():
    names = ["adam+cosine", "adamw+warmup_cosine", "sgd", "sgd_default", "adamw+linear_1e-4"]
    entries = standard_baselines(names)
    assert [entry.name for entry in entries] == [
        "adam+cosine (tuned)",
        "adamw+warmup_cosine (tuned)",
        "sgd (tuned)",
        "sgd_default",
        "adamw+linear_1e-4",
    ]
    assert [len(entry.trials) for entry in entries] == [15, 15, 7, 0, 0]
    rules = {entry.optimizer for entry in entries}
    assert len(rules) == 4  # constant and scheduled forms never share one
    assert np.exp(entries[4].theta["log_learning_rate"]) == pytest.approx(1e-4)
    for name, message in (
        ("adam+cosin", "did you mean cosine"),
        ("rmspropp+cosine", "did you mean rmsprop"),
        ("adam_-1", "adam.learning_rate: -1.0 is not allowed"),
        ("relative_adam+cosine", "relative_adam.schedule: unknown hyperparameter"),
    ):
        with pytest.raises(ValueError, match=message):
            standard_baselines([name])


def test_a_rule_that_needs_more_than_it_is_given_is_refused_at_once():
    rule = dataclasses.replace(HAND_DESIGNED["adam"], name="newton", needs=("obj_fn",))
    entry = Entry("newton", rule, ADAM.theta)
    with pytest.raises(ValueError, match="obj_fn: newton needs the loss as a function"):
        evaluate([entry], [FAMILY], seeds=1, steps=2)
