"""How a meta-training run went, as one self-contained HTML page."""

from html import escape
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.config import loading
from meta_train.config.errors import ConfigError
from meta_train.config.model import Config
from meta_train.config.stages import stages
from meta_train.estimators.base import BINS
from meta_train.evaluation import stats
from meta_train.reports import figures, page
from meta_train.reports.figures import Series
from meta_train.reports.histograms import histograms
from meta_train.run.metrics_log import read_histograms, read_metrics

POINTS = 200  # of a drawn curve
DRAWN_HORIZONS = 40
HORIZON_SAMPLES = 512
SCORE = "eval/score"


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
    """What the metrics say, family by family; config and environment folded."""
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
        *_section(
            "Along a run",
            "Score by position in the inner run, in tenths: the mean over the last fifth of "
            "meta-training, with that over the first fifth as a dashed line.",
            _positions(metrics),
        ),
        *_section(
            "Signal and trouble",
            "Over the last fifth of meta-training. Signal to noise, a median, is the squared norm "
            "of the mean gradient over the variance of that mean: about 1 where there is only "
            "noise. A capped step is as bad as the objective lets any be; a tied pair gave no "
            "gradient; a rejected task had a gradient that was not finite.",
            _health(metrics),
        ),
        *_section(
            "How long inner runs are",
            "Median and middle 80% of the distribution in force at every meta-step.",
            _horizons(run, last),
        ),
    ]
    rows = read_histograms(run / "histograms.jsonl")
    if rows:
        sections += ["<h2>Meta-gradient, update and weights</h2>", histograms(rows, "meta-step")]
    for title, name in (("Config", "config.yaml"), ("Environment", "environment.json")):
        if (run / name).is_file():
            text = (run / name).read_text(encoding="utf-8", errors="replace")
            sections.append(page.folded(title, f"<pre>{escape(text)}</pre>"))
    return page.page(f"learned-opt: training of {run.resolve().name}", "\n".join(sections))


def _section(title: str, text: str, body: str) -> list[str]:
    """Nothing where there is nothing to show."""
    return [f"<h2>{title}</h2>", f"<p>{text}</p>", body] if body else []


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
    for name, caption in (
        ("meta/loss", "Meta-loss"),
        ("meta/grad_norm", "Meta-gradient norm"),
        ("meta/grad_snr", "Signal to noise of the meta-gradient"),
    ):
        if name in metrics:
            captions.append(caption)
            drawings.append(_drawing(metrics[name], caption.lower()))
    return page.figures(captions, drawings)


def _families(metrics: dict[str, np.ndarray]) -> str:
    names = _family_names(metrics)
    drawings = [_drawing(metrics[f"tasks/{n}/objective"], f"objective of {n}") for n in names]
    return page.figures([escape(name) for name in names], drawings)


def _family_names(metrics: dict[str, np.ndarray]) -> list[str]:
    return [n.split("/")[1] for n in metrics if n.startswith("tasks/") and n.endswith("/objective")]


def _positions(metrics: dict[str, np.ndarray]) -> str:
    captions, drawings = [], []
    for name in _family_names(metrics):
        rows = [metrics.get(f"tasks/{name}/position/{i}") for i in range(BINS)]
        known = [pairs for pairs in rows if pairs is not None]
        if len(known) < BINS:
            continue
        places = (np.arange(BINS) + 0.5) / BINS
        lines = []
        for style, part in ((0, _last_fifth), (None, _first_fifth)):
            means = np.asarray([_mean(part(pairs)) for pairs in known])
            lines.append(Series(style, places, means, means, means))
        captions.append(escape(name))
        drawings.append(figures.draw(lines, f"score along a run of {name}", "", "part of the run"))
    return page.figures(captions, drawings) if drawings else ""


def _health(metrics: dict[str, np.ndarray]) -> str:
    columns = {
        "grad_snr": "signal to noise",
        "horizon": "mean steps of a run",
        "capped": "capped steps",
        "diverged": "steps not finite",
        "tied": "tied pairs",
        "rejected": "rejected tasks",
    }
    rows = []
    for name in _family_names(metrics):
        cells: list[page.Cell | str] = [escape(name)]
        for column in columns:
            pairs = metrics.get(f"tasks/{name}/{column}")
            values = np.empty(0) if pairs is None else _last_fifth(pairs)
            values = values[np.isfinite(values)]
            if not len(values):
                cells.append("")
                continue
            # Trouble is rare: the median of a fraction would hide it.
            share = column not in ("grad_snr", "horizon")
            value = float(np.mean(values) if share else np.median(values))
            cells.append(page.Cell(f"{value:.2%}" if share else f"{value:.3g}", value))
        rows.append(cells)
    known = any(cell for row in rows for cell in row[1:])
    return page.table(["family", *columns.values()], rows, sortable=True) if known else ""


def _horizons(run: Path, last: int) -> str:
    try:
        config = loading.load(run / "config.yaml")
    except ConfigError:  # the numbers of a run are worth a page without it
        return ""
    steps, quantiles = horizons_in_force(config, last)
    if not len(steps):
        return ""
    low, middle, high = quantiles.T
    line = Series(0, steps, middle, low, high)
    drawing = figures.draw([line], "steps of an inner run", "steps", "meta-step", whole=True)
    return page.figures(["Steps of a new inner run"], [drawing])


def horizons_in_force(config: Config, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Meta-steps up to `last`, and the 10th, 50th and 90th percentile of the horizon at each.

    Nothing where the buckets of a controller say how long runs are.
    """
    parts = stages(config)
    steps = np.unique(np.linspace(0, last, DRAWN_HORIZONS).round().astype(int))
    keys = jax.random.split(jax.random.key(0), HORIZON_SAMPLES)
    rows = []
    for step in steps:
        stage = [part for part in parts if part.start <= step][-1]
        if stage.config.horizon is None:
            return np.empty(0), np.empty((0, 3))
        draw = jax.vmap(stage.config.horizon.build().sample, (0, None))
        rows.append(np.percentile(draw(keys, jnp.int32(step)), [10, 50, 90]))
    return steps, np.asarray(rows)


def _first_fifth(pairs: np.ndarray) -> np.ndarray:
    return pairs[: len(pairs) // 5 + 1, 1]


def _last_fifth(pairs: np.ndarray) -> np.ndarray:
    return pairs[len(pairs) * 4 // 5 :, 1]


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else np.nan


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
