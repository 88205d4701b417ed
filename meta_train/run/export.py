"""Weights out of a run folder, as one file for users."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learned_opt import io
from learned_opt.locate import SUFFIX
from meta_train.config import loading
from meta_train.evaluation import stats
from meta_train.evaluation.results import Report
from meta_train.run.checkpoint import read_arrays
from meta_train.run.metrics_log import read_metrics

AVERAGE = "learner/theta_average"


def export_run(
    run: Path, file: Path, step: int | None = None, results: Path | None = None
) -> dict[str, Any]:
    """Writes the best weights of a run, or its averaged weights at a checkpoint; gives the card.

    run: a run folder (or what io.read takes). file: *.safetensors. step: meta-step of a checkpoint
    that is still there. results: folder of an evaluation whose scores the card shall hold. Raises
    WeightsError, ConfigError, CheckpointError and ResultsError.
    """
    if file.suffix != SUFFIX:
        raise ValueError(f"{file}: the name of a weight file ends in {SUFFIX}")
    if step is None:
        rule, theta, card = io.read(run)
    else:
        rule = loading.load(run / "config.yaml").optimizer.build()
        arrays = read_arrays(run / "checkpoints", step)
        card = {**io.card(run), "meta_steps": step}
        card.pop("selection_score", None)
        shapes = jax.eval_shape(rule.init, jax.random.key(0))
        leaves = [arrays[f"{AVERAGE}/{name}"] for name in io.named_leaves(shapes)]
        theta = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    if (run / "metrics.jsonl").is_file():
        card["compute"] = compute(run)
    if results is not None:
        card["results"] = summary(Report.load(results))
    io.write(file, rule, theta, card)
    return io.card(file)


def compute(run: Path) -> dict[str, Any]:
    """What the whole run has cost so far: meta-steps, inner steps, hours and the machine.

    The hours count compilation and evaluations too.
    """
    metrics = read_metrics(run / "metrics.jsonl")
    last, hours, inner_steps = 0.0, 0.0, 0.0
    rates = zip(
        metrics.get("time/meta_steps_per_second", ()),
        metrics.get("time/inner_steps_per_second", ()),
        strict=True,
    )
    for (step, rate), (_, inner_rate) in rates:
        hours += (step - last) / rate / 3600.0
        inner_steps += (step - last) / rate * inner_rate
        last = step
    for name in ("time/first_step_seconds", "time/stage_seconds", "time/eval_seconds"):
        hours += sum(seconds for _, seconds in metrics.get(name, ())) / 3600.0
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    return {
        "meta_steps": int(last),
        "inner_steps": int(inner_steps),
        "hours": round(hours, 2),
        **{name: environment.get(name) for name in ("devices", "cpus")},
    }


def summary(report: Report) -> dict[str, Any]:
    """The verdict on every optimizer of an evaluation, and its final losses task by task."""
    ratios = stats.geometric_mean(report.scores.ratio)
    return {
        "suite": report.suite,
        "fingerprint": report.fingerprint,
        "steps": report.settings["steps"],
        "seeds": len(report.seeds),
        "yardstick": report.optimizers[report.yardstick],
        "verdicts": {
            name: verdict._asdict()
            for name, verdict in zip(report.optimizers, report.verdicts, strict=True)
        },
        "final_loss_ratio": {
            name: dict(zip(report.tasks, np.round(row, 4).tolist(), strict=True))
            for name, row in zip(report.optimizers, ratios, strict=True)
        },
    }
