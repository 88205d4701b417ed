"""Draws the learning curves of an evaluation on a few of its tasks as one picture.

    learned-opt evaluate relative_soap --suite heldout_small --steps 1000 --seeds 3 \\
        --baselines adamw+warmup_cosine,adam --out results/heldout
    python scripts/curves.py results/heldout docs/images/curves.svg \\
        --tasks poisson shapes_mixer corpus_conv

Lines are geometric means over seeds of the training loss on the whole split; bands reach from the
lowest to the highest seed.
"""

import argparse
from pathlib import Path

import numpy as np

from meta_train import Report
from meta_train.evaluation.results import ResultsError

INK = "#4b5563"  # legible on white and on black
COLOURS = ("#d9480f", "#2f78c4", "#868e96", "#2b8a3e", "#9c36b5")
SIZE = (3.2, 2.6)  # inches, of one task


def picture(report: Report, tasks: list[str], path: Path) -> None:
    """Writes the file; its ending names the format."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "curves", "svg.fonttype": "path", "font.size": 9}
    from matplotlib import pyplot

    width, height = SIZE
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(width * len(tasks), height))
    steps = np.asarray(report.eval_steps)
    for axis, task in zip(np.ravel(axes), tasks, strict=True):
        losses = report.train_loss[:, report.tasks.index(task)]
        for name, colour, runs in zip(report.optimizers, COLOURS, losses, strict=False):
            with np.errstate(divide="ignore", invalid="ignore"):  # losses of 0 are not drawn
                middle = np.exp(np.log(runs).mean(axis=0))
            axis.plot(steps, middle, color=colour, label=name)
            axis.fill_between(steps, runs.min(axis=0), runs.max(axis=0), color=colour, alpha=0.15)
        axis.set(title=task, xlabel="step", yscale="log")
        axis.title.set_color(INK)
        axis.tick_params(colors=INK, which="both")
        axis.xaxis.label.set_color(INK)
        for spine in axis.spines.values():
            spine.set_color(INK)
    np.ravel(axes)[0].set_ylabel("training loss", color=INK)
    labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(*labels, ncols=len(labels[0]), loc="lower center", labelcolor=INK, frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, transparent=True, metadata={"Date": None} if path.suffix == ".svg" else {})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", metavar="DIR", help="an evaluation")
    parser.add_argument("file", type=Path, metavar="FILE", help="the picture: .svg, .png or .pdf")
    parser.add_argument("--tasks", nargs="+", required=True, metavar="TASK")
    args = parser.parse_args(arguments)
    try:
        report = Report.load(args.results)
    except ResultsError as error:
        parser.error(str(error))
    if missing := [task for task in args.tasks if task not in report.tasks]:
        parser.error(f"--tasks: {missing[0]} is not allowed; it must be of {list(report.tasks)}")
    if len(report.optimizers) > len(COLOURS):
        parser.error(f"{args.results}: {len(report.optimizers)} optimizers; at most {len(COLOURS)}")
    picture(report, args.tasks, args.file)


if __name__ == "__main__":
    main()
