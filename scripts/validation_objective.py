"""Meta-trains a rule on validation loss and on training loss and compares how much each overfits.

    python scripts/validation_objective.py

Writes docs/validation_objective.json, docs/images/validation_objective.svg and
docs/images/validation_trajectories.svg; rules that lie in the folder --out already are read.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

import learned_opt
from learned_opt.registry import HAND_DESIGNED
from meta_train.cli.startup import start_jax
from meta_train.config import loading
from meta_train.evaluation.programs import build_program
from meta_train.run.build import build_learner, build_tasks

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
CONFIG, DOCS = ROOT / "configs" / "validation_objective.yaml", ROOT / "docs"
MEASURES = {"training loss": "train", "validation loss": "outer_valid"}
SPLITS = ("train", "inner_valid", "test")
START_STEPS = 300
LONGEST = 600  # steps of the longest run of the meta-training
LEVEL = 0.6  # of the training loss, which every rule gets to
STEPS, POINTS, TASKS = 2 * LONGEST, 60, 64
RATES = 10.0 ** np.arange(-4, 0.25, 0.5)
FIRST_TASK = 1000  # seeds of tasks that no choice of a rate has seen
STARTS = ((-1.5, 0.5), (-0.5, 1.5), (0.5, 2.0), (1.5, 0.0), (2.0, 1.0), (-1.0, -2.0), (0.0, -1.5))
DRAWN = np.r_[0:60, 60 : LONGEST + 1 : 10]  # points of a path that the picture holds
COLORS = {
    "training loss": "#d95f02",
    "validation loss": "#1b9e77",
    "Adam": "#7570b3",
    "SGD": "#666666",
}


def meta_train(seeds: int, out: Path) -> dict[str, list]:
    """name of the objective -> seed -> averaged weights; what lies in `out` already is read.

    Both of a seed go on from what START_STEPS meta-steps on training loss have led to: from fresh
    weights, validation loss only learns to shrink the networks until they say nothing.
    """
    learners = {}

    def learner(measure: str):
        if measure not in learners:
            built = build_learner(loading.load(CONFIG, [f"measure={measure}"]))
            learners[measure] = (built, built.load())
        return learners[measure]

    def stage(name: str, measure: str, seed: int, steps: int, theta=None):
        path = out / f"{name}-{seed}.safetensors"
        if not path.exists():
            built, data = learner(measure)
            state = built.init(jax.random.key(seed), data, theta)
            for step in range(steps):
                state, metrics = built.step(state, data)
                if step % 100 == 99:
                    print(f"{name} {seed}: {step + 1}: {metrics['meta/loss']:.4f}", flush=True)
            card = {"meta_steps": steps, "measure": measure, "seed": seed}
            learned_opt.write(path, built.optimizer, jax.device_get(built.theta(state)), card)
        return learned_opt.read(path)[1]

    found = {name: [] for name in MEASURES}
    steps = loading.load(CONFIG).steps
    for seed in range(seeds):
        begun = stage("start", "train", seed, START_STEPS)
        for name, measure in MEASURES.items():
            found[name].append(stage(measure, measure, seed, steps, begun))
    return found


def evaluate(rules: dict[str, list]) -> dict:
    """Mean losses of unseen tasks: name -> seed -> split -> curve; Adam with its rates."""
    config = loading.load(CONFIG)
    family = build_tasks(config).families[0]
    data = jax.tree.map(jnp.asarray, family.load())

    def curves(program, theta, first: int) -> dict[str, list[float]]:
        losses = program(data, (theta, None), jnp.arange(first, first + TASKS)).losses
        means = [np.asarray(jnp.mean(x, axis=0), np.float64).tolist() for x in losses]
        return dict(zip(SPLITS, means, strict=True))

    program = build_program(family, config.optimizer.build(), STEPS, POINTS, SPLITS)
    found = {
        name: [curves(program, theta, FIRST_TASK) for theta in thetas]
        for name, thetas in rules.items()
    }
    program = build_program(family, HAND_DESIGNED["adam"], STEPS, POINTS, SPLITS)
    theta = lambda rate: {"log_learning_rate": jnp.log(jnp.float32(rate))}
    tried = {rate: curves(program, theta(rate), 0) for rate in RATES}
    for goal, split in (("training loss", "train"), ("validation loss", "inner_valid")):
        ends = {rate: curve[split][LONGEST * POINTS // STEPS] for rate, curve in tried.items()}
        best = min(ends, key=lambda rate: np.nan_to_num(ends[rate], nan=np.inf))
        chosen = curves(program, theta(best), FIRST_TASK) | {"learning_rate": [float(best)]}
        found[f"Adam, tuned for {goal}"] = [chosen]
    return found


def summarise(curves: list[dict]) -> dict:
    """Of the seeds' means: their mean, and the lowest and highest of them."""
    rows = {}
    for step in (LONGEST, STEPS):
        train, test = ([c[split][step * POINTS // STEPS] for c in curves] for split in SPLITS[::2])
        gap = np.subtract(test, train).tolist()
        rows |= {f"train_{step}": train, f"test_{step}": test, f"gap_{step}": gap}
    rows["test_best"] = [min(c["test"]) for c in curves]
    # The test loss at the first measured step at which the training loss is no higher than this.
    reached = [int(np.argmax(np.asarray(c["train"]) <= LEVEL)) for c in curves]
    rows[f"test_at_{LEVEL}"] = [c["test"][i] for c, i in zip(curves, reached, strict=True)]
    return {k: {"mean": float(np.mean(v)), "low": min(v), "high": max(v)} for k, v in rows.items()}


def path(rule: optax.GradientTransformationExtraArgs) -> np.ndarray:
    """(starts, steps + 1, 2): the way down (x - y)^2 / 2 from every start."""
    value = lambda p: 0.5 * (p[0] - p[1]) ** 2

    def step(carry, _):
        point, state = carry
        loss, gradient = jax.value_and_grad(value)(point)
        updates, state = rule.update(gradient, state, point, value=loss, eval_value=loss)
        return (optax.apply_updates(point, updates), state), point

    def walk(start):
        _, points = jax.lax.scan(step, (start, rule.init(start)), None, LONGEST + 1)
        return points

    return np.asarray(jax.jit(jax.vmap(walk))(jnp.asarray(STARTS, jnp.float32)))


def paths(rules: dict[str, list]) -> dict[str, np.ndarray]:
    rule = loading.load(CONFIG).optimizer.build()
    found = {
        "Adam": path(optax.with_extra_args_support(optax.adam(0.01))),
        "SGD": path(optax.with_extra_args_support(optax.sgd(0.05))),
    }
    for name, thetas in rules.items():
        found |= {f"{name} {i}": path(rule.opt(t, LONGEST)) for i, t in enumerate(thetas)}
    return found


def places(points: np.ndarray) -> dict[str, list[float]]:
    """For every start: how far from the line its path ends, and how far along the line it went.

    along: the end's distance from the origin, along x = y, over that of the line's nearest point.
    """
    start, end = points[:, 0], points[:, -1]
    off = np.abs(end[:, 0] - end[:, 1]) / np.sqrt(2)
    along = np.abs(end.sum(-1)) / np.abs(start.sum(-1))
    return {"off_the_line": off.tolist(), "along": along.tolist()}


def draw_curves(found: dict) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.9), layout="constrained")
    steps = np.linspace(0, STEPS, POINTS + 1)
    for name, curves in found.items():
        color = COLORS["Adam"] if name.startswith("Adam") else COLORS[name]
        style = ":" if name.endswith("validation loss") and name.startswith("Adam") else "-"
        label = name if name.startswith("Adam") else f"rule trained on {name}"
        for i, c in enumerate(curves):
            shown = (c["train"], c["test"], np.subtract(c["test"], c["train"]))
            for axis, values in zip(axes, shown, strict=True):
                axis.plot(steps, values, style, color=color, lw=1.2, label=label if not i else None)
    for axis, title in zip(
        axes, ("training loss", "test loss", "test - training loss"), strict=True
    ):
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.axvline(LONGEST, color="0.7", lw=0.8)
    axes[0].set_yscale("log")
    axes[1].set_ylim(0, 4)
    axes[2].set_ylim(-0.2, 4)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(DOCS / "images" / "validation_objective.svg", metadata={"Date": None})
    plt.close(figure)


def draw_paths(found: dict[str, np.ndarray], rules: dict[str, list]) -> None:
    names = ["Adam", "SGD", *rules]
    figure, axes = plt.subplots(1, 4, figsize=(10, 3.3), layout="constrained", sharey=True)
    for axis, name in zip(axes, names, strict=True):
        for value in (0, 0.5, 2, 4.5, 8):
            for off in (-np.sqrt(2 * value), np.sqrt(2 * value)):
                color = "0.85" if value else "0.6"
                axis.plot([-2.5, 2.5], [off - 2.5, off + 2.5], color=color, lw=0.7)
        for key in [key for key in found if key == name or key.startswith(f"{name} ")]:
            for points in found[key]:
                axis.plot(*points[DRAWN].T, color=COLORS[name], lw=0.9)
                axis.plot(*points[0], "o", color="0.3", ms=3)
                axis.plot(*points[-1], "s", color=COLORS[name], ms=3)
        axis.plot(0, 0, "+", color="black", ms=8)
        axis.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5), aspect="equal", xlabel="x")
        axis.set_title(f"rule trained on\n{name}" if name in rules else name)
    axes[0].set_ylabel("y")
    figure.savefig(DOCS / "images" / "validation_trajectories.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/validation_objective"))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    start_jax()
    matplotlib.rcParams |= {"svg.hashsalt": "learned-opt", "font.size": 8, "svg.fonttype": "none"}
    rules = meta_train(args.seeds, args.out)
    found, walked = evaluate(rules), paths(rules)
    results = {
        "tasks": {name: summarise(curves) for name, curves in found.items()},
        "trajectories": {name: places(points) for name, points in walked.items()},
        "steps": np.linspace(0, STEPS, POINTS + 1).tolist(),
        "curves": found,
    }
    (DOCS / "validation_objective.json").write_text(json.dumps(rounded(results)) + "\n")
    draw_curves(found)
    draw_paths(walked, rules)
    print(json.dumps({k: rounded(results[k]) for k in ("tasks", "trajectories")}, indent=1))


def rounded(value):
    """Every number to four digits."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.4g}")


if __name__ == "__main__":
    main()
