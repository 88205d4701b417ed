"""Results of several evaluations as one report, where all ran the same tasks equally long."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from meta_train.evaluation.results import Report, ResultsError

SAME = 1e-6  # relative: closer curves are the same run, made twice


def combine(folders: Sequence[str | Path]) -> Report:
    """One report of all optimizers in `folders`, in their order.

    An optimizer that ran alike in several of them appears once; one that ran differently under the
    same name gets the name of its folder behind it. Raises ResultsError where suites, steps, tasks
    or seeds differ.
    """
    folders = [Path(folder) for folder in folders]
    combined = Report.load(folders[0])
    for folder in folders[1:]:
        other = Report.load(folder)
        _check(folders[0], combined, folder, other)
        combined = _joined(combined, other, folder.resolve().name)
    return combined


def _check(one: Path, first: Report, two: Path, second: Report) -> None:
    fingerprints = [r.fingerprint or "none" for r in (first, second)]
    if fingerprints[0] != fingerprints[1] or first.suite != second.suite:
        raise ResultsError(
            f"{one} holds results of suite {first.suite} with fingerprint {fingerprints[0]}, "
            f"{two} of suite {second.suite} with fingerprint {fingerprints[1]}: only results of "
            "the same version of a suite compare; evaluate again"
        )
    for field, what in (("eval_steps", "steps"), ("tasks", "tasks"), ("seeds", "seeds")):
        values = [getattr(report, field) for report in (first, second)]
        if values[0] != values[1]:
            shown = [v[-1] if field == "eval_steps" else ", ".join(map(str, v)) for v in values]
            if shown[0] == shown[1]:
                shown = [
                    f"{t} measured at {len(v)} points" for t, v in zip(shown, values, strict=True)
                ]
            raise ResultsError(
                f"{what}: {shown[0]} in {one}, {shown[1]} in {two} (both fingerprint "
                f"{fingerprints[0]}): only runs of the same {what} compare"
            )


def _joined(first: Report, second: Report, folder: str) -> Report:
    """`first` with what `second` adds; `folder` names the latter."""
    names: dict[str, str] = {}  # in second -> in the joined report
    for number, name in enumerate(second.optimizers):
        if name not in first.optimizers:
            names[name] = name
        elif not _same(first, first.optimizers.index(name), second, number):
            names[name] = f"{name} [{folder}]"
    added = [second.optimizers.index(name) for name in names]
    joined: dict[str, Any] = {
        field: np.concatenate([getattr(first, field), getattr(second, field)[added]])
        for field in ("train_loss", "test_loss", "diverged", "seconds_per_step")
    }
    for field in ("grids", "trial_loss", "trial_test_loss", "forms"):
        more = {names[k]: v for k, v in getattr(second, field).items() if k in names}
        joined[field] = getattr(first, field) | more
    for field in ("settings", "versions"):
        joined[field] = _both(getattr(first, field), getattr(second, field))
    return replace(first, optimizers=(*first.optimizers, *names.values()), **joined)


def _same(first: Report, one: int, second: Report, two: int) -> bool:
    pairs = ((first.train_loss[one], second.train_loss[two]),)
    pairs += ((first.test_loss[one], second.test_loss[two]),)
    return all(np.allclose(a, b, rtol=SAME, atol=0.0, equal_nan=True) for a, b in pairs)


def _both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """What both say; where they differ, one after the other."""
    joined = dict(first)
    for key, value in second.items():
        if key not in joined:
            joined[key] = value
        elif str(value) not in str(joined[key]).split(" | "):
            joined[key] = f"{joined[key]} | {value}"
    return joined
