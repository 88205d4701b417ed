"""Learned optimizers as the meta-optimizer of a fresh small_fc, against Adam.

    python scripts/self_training.py

Writes docs/self_training.json and docs/images/self_training.svg. The contenders are Adam at several
rates, the packaged hierarchical RNN, and small_fc itself with the weights that the best Adam found.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

from meta_train.cli.startup import start_jax
from meta_train.config import loading
from meta_train.learners.meta_optimizers import Learned
from meta_train.run.build import build_learner

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
CONFIG, DOCS = ROOT / "configs" / "self_training.yaml", ROOT / "docs"
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
OWN_RATES = (1e-2, 1e-3)  # of small_fc; the first is the one it was trained with
ADAM, HIERARCHICAL, ITSELF = range(3)
HAND_DESIGNED = {f"Adam {rate:g}": rate for rate in RATES}
SMOOTHED = 25  # meta-steps that a point of the figure is the mean of


class Contender(NamedTuple):
    """One meta-optimizer out of all, so that one program serves every run."""

    which: jax.Array
    rate: jax.Array  # Adam's highest, or small_fc's
    theta: Any  # small_fc's, as the meta-optimizer
    states: tuple


def contenders(rule, theta, steps: int) -> optax.GradientTransformationExtraArgs:
    """theta: weights of `rule`, which those of its state take the place of."""
    adam = optax.scale_by_adam()
    falling = optax.cosine_decay_schedule(1.0, steps)
    hierarchical = optax.with_extra_args_support(Learned(name="hierarchical_rnn").rule(steps))

    def init(params):
        states = (adam.init(params), hierarchical.init(params), rule.opt(theta, steps).init(params))
        return Contender(jnp.zeros((), jnp.int32), jnp.zeros(()), theta, states)

    def update(updates, state, params=None, **extra):
        updates = jax.tree.map(lambda g: jnp.clip(g, -0.1, 0.1), updates)

        def made(number, moved, inner):
            states = list(state.states)
            states[number] = inner
            return moved, tuple(states)

        def by_adam():
            moved, inner = adam.update(updates, state.states[ADAM])
            step = -state.rate * falling(state.states[ADAM].count)
            return made(ADAM, jax.tree.map(lambda u: step * u, moved), inner)

        def by_rule(number, chosen):
            return made(number, *chosen.update(updates, state.states[number], params, **extra))

        moved, states = jax.lax.switch(
            state.which,
            [
                by_adam,
                lambda: by_rule(HIERARCHICAL, hierarchical),
                lambda: by_rule(ITSELF, rule.opt(state.theta, steps, learning_rate=state.rate)),
            ],
        )
        return moved, state._replace(states=states)

    return optax.GradientTransformationExtraArgs(init, update)


def run(learner, data, seed: int, steps: int, **chosen) -> tuple[list[float], Any]:
    """The meta-loss of every meta-step and the averaged weights. chosen: fields of Contender."""
    state = learner.init(jax.random.key(seed), data)
    contender = state.meta_opt_state._replace(**jax.tree.map(jnp.asarray, chosen))
    state = learner.place(state._replace(meta_opt_state=contender))
    losses = []
    for _ in range(steps):
        state, metrics = learner.step(state, data)
        losses.append(metrics["meta/loss"])
    return np.asarray(jax.device_get(losses), np.float64).tolist(), learner.theta(state)


def end(losses: list[float]) -> float:
    """The mean of the last tenth."""
    return float(np.mean(losses[-len(losses) // 10 :]))


def compare(seeds: int) -> dict[str, list[list[float]]]:
    """name -> seed -> meta-losses."""
    config = loading.load(CONFIG)
    steps, rule = config.steps, config.optimizer.build()
    theta = rule.init(jax.random.key(0))
    learner = replace(build_learner(config), meta_optimizer=contenders(rule, theta, steps))
    data = learner.load()
    found, weights = {}, {}

    def add(name, **chosen):
        found[name] = []
        for seed in range(1, seeds + 1):
            losses, weights[name, seed] = run(learner, data, seed, steps, **chosen)
            found[name].append(losses)
        print(f"{name}: {[round(end(losses), 3) for losses in found[name]]}", flush=True)

    for name, rate in HAND_DESIGNED.items():
        add(name, which=ADAM, rate=rate)
    add("hierarchical_rnn", which=HIERARCHICAL)
    best = best_adam(found)
    _, theta = run(learner, data, 0, steps, which=ADAM, rate=HAND_DESIGNED[best])
    for rate in OWN_RATES:
        add(f"small_fc {rate:g}", which=ITSELF, rate=rate, theta=theta)
    return found


def best_adam(found: dict[str, list[list[float]]]) -> str:
    return min(HAND_DESIGNED, key=lambda name: np.mean([end(losses) for losses in found[name]]))


def smoothed(losses: list[float]) -> list[float]:
    return np.round(np.reshape(losses, (-1, SMOOTHED)).mean(1), 4).tolist()


def draw(curves: dict[str, list[list[float]]], best: str) -> None:
    """curves: smoothed."""
    shown = {
        "hierarchical_rnn": ("hierarchical_rnn, packaged", "#d95f02"),
        "small_fc 0.01": ("small_fc, trained by Adam before", "#1b9e77"),
        "small_fc 0.001": ("the same at a tenth of its rate", "#66a61e"),
        "Adam 0.001": ("Adam, 0.001", "#b3b0d6"),
        best: (f"Adam, {HAND_DESIGNED[best]:g}, the best rate", "#7570b3"),
    }
    figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for name, (label, color) in shown.items():
        runs = curves[name]
        steps = (np.arange(len(runs[0])) + 0.5) * SMOOTHED
        axes.plot(steps, np.mean(runs, 0), color=color, label=label)
        axes.fill_between(steps, np.min(runs, 0), np.max(runs, 0), color=color, alpha=0.2, lw=0)
    axes.set(xlabel="meta-step", ylabel="meta-loss")
    title = "meta-optimizer of a fresh small_fc"
    figure.legend(loc="outside lower center", ncols=2, title=title, fontsize=7, title_fontsize=7)
    figure.savefig(DOCS / "images" / "self_training.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    start_jax()
    matplotlib.rcParams |= {"svg.hashsalt": "learned-opt", "font.size": 8, "svg.fonttype": "none"}
    found = compare(args.seeds)
    table = {
        name: {"end": [end(losses) for losses in runs], "mean": [float(np.mean(r)) for r in runs]}
        for name, runs in found.items()
    }
    curves = {name: [smoothed(losses) for losses in runs] for name, runs in found.items()}
    results = {"best_adam": best_adam(found), "scores": table, "curves": curves}
    (DOCS / "self_training.json").write_text(json.dumps(results) + "\n")
    draw(curves, results["best_adam"])
    print(json.dumps({"best_adam": results["best_adam"], "scores": table}, indent=1))


if __name__ == "__main__":
    main()
