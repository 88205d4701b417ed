"""How a meta-training run went, as one self-contained HTML page."""

import json
from html import escape
from pathlib import Path

import numpy as np

from meta_train import figures, page, stats
from meta_train.figures import Series
from meta_train.results import ResultsError

POINTS = 200  # of a drawn curve
SCORE = "eval/score"


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """The metrics by name: [(meta-step, value)], NaN for what was not finite; torn lines skipped.

    Raises ResultsError without the file or where it holds no metrics.
    """
    if not path.is_file():
        raise ResultsError(f"{path}: no such file; 'learned-opt train' writes it")
    found: dict[str, list[tuple[float, float]]] = {}
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            step = float(line.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for name, value in line.items():
            number = float(value) if isinstance(value, int | float) else np.nan
            found.setdefault(name, []).append((step, number))
    if not found:
        raise ResultsError(f"{path}: holds no metrics of a training run")
    return {name: np.asarray(pairs) for name, pairs in found.items()}


def write_training_html(run: str | Path) -> Path:
    """Writes report.html into a run folder and says where.

    Raises ResultsError without metrics, MissingExtra without matplotlib.
    """
    run = Path(run)
    text = training_html(run)
    path = run / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def training_html(run: Path) -> str:
    """Selection score, objective of every task family, gradients; config and environment folded."""
    metrics = read_metrics(run / "metrics.jsonl")
    last = max(int(pairs[-1, 0]) for pairs in metrics.values())
    sections = [
        f"<h1>Meta-training of {escape(run.resolve().name)}</h1>",
        f'<p class="soft">{last} meta-steps{_selected(metrics)}.</p>',
        _overview(metrics),
        "<h2>Objective, family by family</h2>",
        "<p>Mean over the tasks of a family; the line is a moving average over a twentieth of the "
        "run, the band the middle 80% of what it averages. It says how training goes, "
        "not how the rule does elsewhere: the selection score above does that.</p>",
        _families(metrics),
    ]
    for title, name in (("Config", "config.yaml"), ("Environment", "environment.json")):
        if (run / name).is_file():
            text = (run / name).read_text(encoding="utf-8", errors="replace")
            sections.append(page.folded(title, f"<pre>{escape(text)}</pre>"))
    return page.page(f"learned-opt: training of {run.resolve().name}", "\n".join(sections))


def _selected(metrics: dict[str, np.ndarray]) -> str:
    scores = metrics.get(SCORE)
    if scores is None or np.isnan(scores[:, 1]).all():
        return ""
    step, score = scores[np.nanargmin(scores[:, 1])]
    return f"; best selection score {score:.4g} at meta-step {int(step)} (lower is better)"


def _overview(metrics: dict[str, np.ndarray]) -> str:
    captions, drawings = [], []
    if SCORE in metrics:
        steps, scores = metrics[SCORE].T
        captions.append("Selection score")
        line = Series(0, steps, scores, scores, scores)
        drawings.append(figures.draw([line], "selection score", "score", "meta-step"))
    for name, caption in (("meta/loss", "Meta-loss"), ("meta/grad_norm", "Meta-gradient norm")):
        if name in metrics:
            captions.append(caption)
            drawings.append(_drawing(metrics[name], caption.lower()))
    return page.figures(captions, drawings)


def _families(metrics: dict[str, np.ndarray]) -> str:
    names = [n for n in metrics if n.startswith("tasks/") and n.endswith("/objective")]
    captions = [escape(name.split("/")[1]) for name in names]
    drawings = [_drawing(metrics[name], f"objective of {name.split('/')[1]}") for name in names]
    return page.figures(captions, drawings)


def _drawing(pairs: np.ndarray, label: str) -> str:
    """A smoothed curve of at most POINTS points, with the spread of what it smooths over."""
    pairs = pairs[np.isfinite(pairs[:, 1])]
    if not len(pairs):
        return "<p>no finite value</p>"
    steps, values = pairs.T
    shown = np.unique(np.linspace(0, len(values) - 1, min(POINTS, len(values))).round().astype(int))
    before = max(int(2 * stats.WINDOW * len(values)), 1)
    spread = [np.percentile(values[max(end - before, 0) : end + 1], [10, 90]) for end in shown]
    low, high = np.asarray(spread).T
    line = Series(0, steps[shown], stats.smooth(values)[shown], low, high)
    return figures.draw([line], label, "", "meta-step")
