"""What controllers are worth on tasks that they were not trained on, against fixed optimizers.

    python scripts/lhopt_heldout.py
    python scripts/lhopt_heldout.py --choose FILE [FILE ...]

The first writes docs/lhopt_heldout.json and docs/images/lhopt_heldout.svg and prints the tables of
docs/lhopt.md. The second looks at the training buckets only and says which of several weight files
of one training does best there, as a checkpoint is chosen.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

from learned_opt.controller.actions import start_values
from learned_opt.controller.inner import Ciao
from learned_opt.controller.lhopt import LHOPT
from learned_opt.controller.recording import Recording
from learned_opt.controller.schedule import schedules
from learned_opt.io import read
from learned_opt.locate import locate
from meta_train.cli.startup import start_jax
from meta_train.config import loading
from meta_train.learners.ppo.environment import Environment
from meta_train.learners.ppo.recording import record
from meta_train.learners.ppo.reward import fit_curve, log_progress, reward
from meta_train.learners.ppo.trial import Trial, by_controller, by_rule, greedy, play
from meta_train.run.build import build_learner
from tasks.families.autoencoder import MLPAutoencoder
from tasks.families.cnn import CNNClassifier
from tasks.families.language import LanguageModel
from tasks.families.mlp import MLPClassifier
from tasks.families.recommender import Recommender
from tasks.families.transformer_language import TransformerLanguageModel

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
CONFIG, DOCS = ROOT / "configs" / "lhopt.yaml", ROOT / "docs"
PAUSES, STEPS = 16, 24
DIGITS = MLPClassifier(widths=(32, 32), batch_size=64)  # like a training bucket
HELD_OUT = {
    "digits, CNN": CNNClassifier(),
    "breast_cancer, MLP": MLPClassifier("breast_cancer", widths=(32, 32)),
    "wine, MLP": MLPClassifier("wine", widths=(32, 32)),
    "corpus, GRU": LanguageModel(cell="gru", dataset="corpus"),
    "digits, 4 x as wide": MLPClassifier(widths=(128, 128, 128), batch_size=64),
    "digits, 4 x as long": DIGITS,
    "digits, 16 x as long": DIGITS,
    "recommender": Recommender(users=100, items=60, batch_size=64, seed=0),
    "digits, autoencoder": MLPAutoencoder(widths=(32, 8, 32), batch_size=64),
    "corpus, transformer": TransformerLanguageModel(
        dataset="corpus", hidden=64, layers=2, batch_size=16
    ),
}
LONGER = {"digits, 4 x as long": 4, "digits, 16 x as long": 16}

CAP = 20.0  # most times the baseline's steps that a run may count for
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SHAPES = {  # of learning rates, by the fraction of the run that is done
    "constant": jnp.ones_like,
    "cosine": lambda done: 0.5 * (1.0 + jnp.cos(jnp.pi * done)),
    "linear": lambda done: 1.0 - done,
}
ADAMW = "AdamW 0.001 constant"
GRID = {f"AdamW {rate:g} {shape}": (rate, shape) for rate in RATES for shape in SHAPES}
RUNS, OTHERS, TRAINING = range(3)  # what keys are for: the runs, their baselines' curves, choices
FROM = {0.1: " from a tenth of the rate", 10.0: " from ten times the rate"}
RULES = (
    *(f"LHOPT{start}" for start in ("", *FROM.values())),
    *("replay", "progress only", "shuffled features", "random", "no choices", "CIAO cosine"),
    *("Adam 0.001 constant", "AdamW 0.001 cosine"),
)
RESAMPLES = 2000


class Found(NamedTuple):
    """Runs of one method on one task; arrays of NumPy."""

    valid: np.ndarray  # [seeds, points]
    test: np.ndarray
    diverged: np.ndarray  # [seeds]
    choices: np.ndarray  # [seeds, pauses, heads]; empty for rules
    rates: np.ndarray  # [seeds, pauses], of learning; empty for rules


FIELDS = Found._fields


class Bench:
    """One task with its programs; every method runs the same `seeds` runs, once for all."""

    def __init__(
        self, environment: Environment, rule: LHOPT, seeds: int, use: int, out: Path | None = None
    ):
        self.environment, self.rule = environment, rule
        self.steps = environment.pauses * environment.steps
        self.keys, self.others = keys_of(use, seeds), keys_of(OTHERS, seeds)
        self.file = out and out / f"{environment.name} {self.steps}.npz"
        self.known = dict(np.load(self.file)) if self.file and self.file.exists() else {}

    def result(self, name: str, make: Callable[[], Trial]) -> Found:
        """What `make` returns; from the file if it was made before."""
        if name not in self:
            trial = make()
            noted = trial.noted
            more = (noted.choices, noted.values["learning_rate"]) if noted else (np.zeros(0),) * 2
            made = (trial.valid, trial.test, trial.diverged, *more)
            self.known |= {
                f"{name}: {field}": np.asarray(x) for field, x in zip(FIELDS, made, strict=True)
            }
            if self.file:
                np.savez(self.file, **self.known)
        return self.found(name)

    def __contains__(self, name: str) -> bool:
        return f"{name}: {FIELDS[0]}" in self.known

    def found(self, name: str) -> Found:
        return Found(*(self.known[f"{name}: {field}"] for field in FIELDS))

    def controlled(self, name: str, theta: Any, factor: float = 1.0, choices: Any = None) -> Found:
        """factor: on the first learning rate. choices: of every run, in place of the policy's."""
        forced = choices is not None
        if not forced:
            choices = np.zeros(
                (len(self.keys), self.environment.pauses, len(self.rule.control.heads)), np.int32
            )
        call = lambda: self._controlled(self.data, theta, factor, choices, forced, self.keys)
        return self.result(name, call)

    def adamw(self, name: str, decay: float = 1e-2, others: bool = False) -> Found:
        """name: of the grid. others: with the keys of the curves that rewards are read from."""
        rate, shape = GRID[name]
        keys, prefix = (self.others, "curve of ") if others else (self.keys, "")
        name = name if decay else name.replace("AdamW", "Adam")
        call = lambda: self._adamw(self.data, rate, [*SHAPES].index(shape), decay, keys)
        return self.result(prefix + name, call)

    def ciao(self, name: str, values: Mapping[str, Any]) -> Found:
        """values: of every hyperparameter at every update."""
        return self.result(name, lambda: self._ciao(self.data, values, self.keys))

    @cached_property
    def data(self) -> Any:
        return jax.tree.map(jnp.asarray, self.environment.family.load())

    @cached_property
    def _controlled(self) -> Callable[..., Trial]:
        def run(data, theta, factor, choices, forced, key):
            plan = greedy(self.rule, theta, self.environment.pauses)
            values = plan.values | {"learning_rate": factor * plan.values["learning_rate"]}
            plan = plan._replace(values=values, choices=choices, forced=forced)
            driver = by_controller(self.rule, plan, self.environment.pauses)
            return play(self.environment, data, key, driver)

        return jax.jit(jax.vmap(run, (None, None, None, 0, None, 0)))

    @cached_property
    def _adamw(self) -> Callable[..., Trial]:
        def run(data, rate, shape, decay, key):
            def schedule(count):
                falls = jnp.stack([fall(count / self.steps) for fall in SHAPES.values()])
                return rate * falls[shape]

            rule = optax.adamw(schedule, weight_decay=decay)
            return play(self.environment, data, key, by_rule(rule))

        return jax.jit(jax.vmap(run, (None, None, None, None, 0)))

    @cached_property
    def _ciao(self) -> Callable[..., Trial]:
        def run(data, values, key):
            def update(grads, state, params=None):
                count, inner = state
                now = {name: value[count] for name, value in values.items()}
                updates, inner, _ = Ciao().step(grads, inner, params, now, {})
                return updates, (count + 1, inner)

            init = lambda params: (jnp.zeros((), jnp.int32), Ciao().init(params))
            rule = optax.GradientTransformation(init, update)
            return play(self.environment, data, key, by_rule(rule))

        return jax.jit(jax.vmap(run, (None, None, 0)))


def keys_of(use: int, seeds: int) -> Any:
    return jax.random.split(jax.random.fold_in(jax.random.key(20), use), seeds)


def load(path: str | Path) -> tuple[LHOPT, Any]:
    """(rule, weights); those that only see a part become weights of a rule that sees all."""
    rule, theta, _ = read(locate(path))
    if not isinstance(rule, LHOPT):
        raise SystemExit(f"{path}: not a controller")
    if rule.sees:
        policy = theta["policy"]
        shown = rule.control.show(jnp.ones(rule.control.features))
        dense = policy["dense"] | {"w": policy["dense"]["w"] * shown[:, None]}
        theta = theta | {"policy": policy | {"dense": dense}}
    return rule, theta


def environments(halved: bool = False) -> list[Environment]:
    parts = 2 if halved else 1
    return [
        Environment(name, family, PAUSES, STEPS * LONGER.get(name, 1) // parts)
        for name, family in HELD_OUT.items()
    ]


def training_buckets() -> Sequence[Environment]:
    return build_learner(loading.load(CONFIG, [])).environments


# What is chosen on the training buckets


def tuned_adamw(rule: LHOPT, seeds: int, out: Path | None) -> str:
    """The setting whose reward is best on the median training bucket."""
    scores = {name: [] for name in GRID}
    for environment in training_buckets():
        bench = Bench(environment, rule, seeds, TRAINING, out)
        for name, found in scores.items():
            found.append(float(np.mean(rewards(bench, bench.adamw(name), ADAMW))))
    return max(GRID, key=lambda name: np.median(scores[name]))


def choose(paths: Sequence[Path], seeds: int) -> None:
    """Prints the mean reward of every weight file on every training bucket, and over all."""
    loaded = {path: load(path) for path in paths}
    rule, _ = loaded[paths[0]]
    scores = {path: [] for path in paths}
    buckets = training_buckets()
    for environment in buckets:
        bench = Bench(environment, rule, seeds, TRAINING)
        for path, (_, theta) in loaded.items():
            runs = bench.controlled(str(path), theta)
            scores[path].append(float(np.mean(rewards(bench, runs, ADAMW))))
    print("file", *(one.name for one in buckets), "mean", sep="\t")
    for path, found in scores.items():
        cells = [f"{x:.3f}" for x in (*found, np.mean(found))]
        print(path, *cells, sep="\t")


# Held-out runs


class Contenders(NamedTuple):
    rule: LHOPT
    controllers: list[Any]  # weights, one for every seed of the training
    reciter: Any  # weights of a policy trained to see nothing but progress, or None
    recording: Recording  # of the first controller on a task like those it was trained on
    tuned: str  # a name of the grid


def measure(bench: Bench, by: Contenders, halved: bool) -> None:
    """Runs every method on one task; of those of half the length only the main ones."""
    for name in dict.fromkeys((ADAMW, by.tuned)):
        bench.adamw(name)
        bench.adamw(name, others=True)
    for i, theta in enumerate(by.controllers):
        bench.controlled(f"LHOPT {i}", theta)
    if halved:
        return
    for i, theta in enumerate(by.controllers):
        for factor, start in FROM.items():
            bench.controlled(f"LHOPT {i}{start}", theta, factor)
    if by.reciter is not None:
        bench.controlled("progress only", by.reciter)
    draw, heads = np.random.default_rng(0), by.rule.control.heads
    shape = len(bench.keys), PAUSES
    choices = np.stack([draw.integers(n, size=shape) for n in heads], -1).astype(np.int32)
    bench.controlled("random", by.controllers[0], choices=choices)
    for name in GRID:
        bench.adamw(name)
    bench.adamw(ADAMW, decay=0.0)
    counts = jnp.arange(bench.steps)
    values = start_values(by.rule.control.table)
    start = {name: jnp.full(bench.steps, value) for name, value in values.items()}
    bench.ciao("no choices", start)
    falling = SHAPES["cosine"](counts / bench.steps)
    bench.ciao("CIAO cosine", start | {"learning_rate": start["learning_rate"] * falling})
    replayed = schedules(by.recording, bench.steps)
    bench.ciao("replay", {name: jax.vmap(f)(counts) for name, f in replayed.items()})


def shuffle(benches: Sequence[Bench], theta: Any) -> None:
    """Runs the first controller on every task with what it sees of the next one's runs.

    Its choices follow from what it sees alone, so they are those it made there.
    """
    for bench, other in zip(benches, [*benches[1:], benches[0]], strict=True):
        choices = other.controlled("LHOPT 0", theta).choices
        bench.controlled("shuffled features", theta, choices=choices)


def rewards(bench: Bench, found: Found, baseline: str, point: int = -1, test: bool = False) -> Any:
    """[seeds], read from the baseline's median curve of other seeds; point: where runs stop."""
    of = lambda one: one.test if test else one.valid
    losses = np.median(of(bench.adamw(baseline, others=True)), axis=0)
    curve = fit_curve(jnp.asarray(losses), bench.environment.steps)
    ends = jnp.asarray(of(found)[:, point])
    if point == -1:
        return np.asarray(jax.vmap(lambda loss: reward(curve, loss, CAP))(ends))
    pace = jax.vmap(lambda loss: log_progress(curve, loss))(ends)
    pace = np.asarray(pace - jnp.log(curve.time[point] / curve.time[-1]))
    return np.clip(pace, -np.log(CAP), np.log(CAP))


# What is told of them


def scores(benches: Sequence[Bench], name: str, baseline: str, **how: Any) -> np.ndarray:
    """[tasks, seeds]: rewards of one method, of LHOPT the mean over its controllers."""
    return np.stack(
        [np.mean([rewards(b, found, baseline, **how) for found in of(b, name)], 0) for b in benches]
    )


def of(bench: Bench, name: str) -> list[Found]:
    """The runs of a method, by every controller where it is LHOPT's; none that was not measured."""
    names, rest = iter([name]), name.removeprefix("LHOPT")
    if name != rest:
        names = (f"LHOPT {i}{rest}" for i in itertools.count())
    return [bench.found(one) for one in itertools.takewhile(bench.__contains__, names)]


def median_and_interval(found: np.ndarray) -> list[float]:
    """The median over tasks of means over seeds, and its 90 % interval over both."""
    draw = np.random.default_rng(0)
    tasks, seeds = found.shape
    medians = []
    for _ in range(RESAMPLES):
        rows = draw.integers(tasks, size=tasks)
        columns = draw.integers(seeds, size=(tasks, seeds))
        medians.append(np.median(found[rows[:, None], columns].mean(1)))
    middle = float(np.median(found.mean(1)))
    return [middle, *map(float, np.quantile(medians, (0.05, 0.95)))]


def best_of_grid(bench: Bench) -> str:
    """The setting that reaches the lowest validation loss on this task."""
    end = lambda name: np.median(bench.adamw(name).valid[:, -1])
    return min(GRID, key=lambda name: end(name) if np.isfinite(end(name)) else np.inf)


def tell(benches: Sequence[Bench], halves: Sequence[Bench], tuned: str) -> dict[str, Any]:
    """Everything that docs/lhopt_heldout.json holds."""

    def summary(benches: Sequence[Bench], name: str, **how: Any) -> dict[str, Any]:
        against = {"AdamW 0.001": ADAMW, "tuned AdamW": tuned}
        told: dict[str, Any] = {}
        for word, baseline in against.items():
            every = scores(benches, name, baseline, **how)
            told[word] = median_and_interval(every) + [int(np.sum(every.mean(1) > 0))]
        return told

    known = [name for name in (*RULES, tuned) if of(benches[0], name)]
    tasks = {}
    for bench in benches:
        rows = tasks[bench.environment.name] = {}
        best = best_of_grid(bench)
        for name in (*known, ADAMW, best):
            found = of(bench, name)
            rows["best AdamW" if name == best and name != tuned else name] = {
                "validation loss": float(np.median([one.valid[:, -1] for one in found])),
                "test loss": float(np.median([one.test[:, -1] for one in found])),
                "diverged": int(np.sum([one.diverged for one in found])),
                **{
                    word: [float(np.mean(rewards(bench, one, baseline))) for one in found]
                    for word, baseline in (("AdamW 0.001", ADAMW), ("tuned AdamW", tuned))
                },
            }
        rows["best AdamW is"] = best
    return {
        "seeds": len(benches[0].keys),
        "controllers": len(of(benches[0], "LHOPT")),
        "tuned": tuned,
        "summary": {name: summary(benches, name) for name in known},
        "on the test split": {"LHOPT": summary(benches, "LHOPT", test=True)},
        "half as many updates": {"LHOPT": summary(halves, "LHOPT")},
        "stopped early": {
            f"{part:.0%}": summary(benches, "LHOPT", point=int(part * PAUSES))
            for part in (0.25, 0.5)
        },
        "tasks": tasks,
    }


def tables(told: Mapping[str, Any]) -> str:
    """The summary and the tasks in Markdown."""
    lines = ["| | against AdamW 1e-3 | tasks | against the tuned AdamW | tasks |"]
    lines += ["|---|---|---|---|---|"]
    rows = dict(told["summary"])
    rows |= {f"{name}, on the test split": x for name, x in told["on the test split"].items()}
    rows |= {f"{name}, half the updates": x for name, x in told["half as many updates"].items()}
    rows |= {f"LHOPT stopped at {part}": x for part, x in told["stopped early"].items()}
    for name, against in rows.items():
        cells = [f"{x[0]:.2f} ({x[1]:.2f} to {x[2]:.2f}) | {x[3]}" for x in against.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "| task | LHOPT | the tuned AdamW | AdamW 1e-3 | best AdamW | r | r, tuned |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for task, found in told["tasks"].items():
        best = found.get("best AdamW", found[told["tuned"]])
        losses = [found["LHOPT"], found[told["tuned"]], found.get(ADAMW, best), best]
        cells = [f"{x['validation loss']:.3g} / {x['test loss']:.3g}" for x in losses]
        own = [f"{np.mean(found['LHOPT'][word]):.2f}" for word in ("AdamW 0.001", "tuned AdamW")]
        lines.append(f"| {task} | {' | '.join((*cells, *own))} |")
    return "\n".join(lines)


def draw(benches: Sequence[Bench], told: Mapping[str, Any]) -> None:
    """Rewards by task, and the learning rates that led to them."""
    matplotlib.rcParams |= {"svg.hashsalt": "learned-opt", "font.size": 8, "svg.fonttype": "none"}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
    marks = {"LHOPT": "o", "replay": "+", "progress only": "x", "no choices": "|"}
    for name, mark in marks.items():
        for row, found in enumerate(told["tasks"].values()):
            if name in found:
                values = found[name]["AdamW 0.001"]
                label = name if row == 0 else None
                color = f"C{[*marks].index(name)}"
                left.plot(values, [row] * len(values), mark, color=color, label=label, ms=4)
    for row, found in enumerate(told["tasks"].values()):
        left.plot(found[told["tuned"]]["AdamW 0.001"], [row], "k^", ms=4, mfc="none")
    left.plot([], [], "k^", ms=4, mfc="none", label="the tuned AdamW")
    left.set_yticks(range(len(benches)), [*told["tasks"]])
    left.axvline(0.0, color="#999999", lw=0.8)
    left.invert_yaxis()
    left.set(xlabel="reward against AdamW 1e-3 (0.69: twice its steps)")
    figure.legend(loc="outside lower center", ncols=len(marks) + 1, fontsize=7)
    progress = (np.arange(PAUSES) + 0.5) / PAUSES
    for bench in benches:
        rates = np.exp(np.median(np.log(of(bench, "LHOPT")[0].rates), axis=0))
        right.plot(progress, rates, lw=1, label=bench.environment.name)
    right.set(xlabel="fraction of the run", ylabel="learning rate of CIAO", yscale="log")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=6, frameon=False)
    figure.savefig(DOCS / "images" / "lhopt_heldout.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--controllers", nargs="+", default=["lhopt"], metavar="FILE")
    parser.add_argument("--progress-only", metavar="FILE", help="trained with sees: [progress]")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="folder of runs; those that lie there are read")
    parser.add_argument("--choose", nargs="+", metavar="FILE", help="look at training buckets only")
    args = parser.parse_args()
    start_jax()
    if args.choose:
        return choose(args.choose, args.seeds)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    loaded = [load(path) for path in args.controllers]
    rule, first = loaded[0]
    like_training = Environment("digits", DIGITS, PAUSES, STEPS)
    by = Contenders(
        rule,
        [theta for _, theta in loaded],
        load(args.progress_only)[1] if args.progress_only else None,
        record(rule, first, like_training, 16)[0],
        tuned_adamw(rule, args.seeds, args.out),
    )
    whole, half = (
        [Bench(one, rule, args.seeds, RUNS, args.out) for one in environments(halved)]
        for halved in (False, True)
    )
    for benches, halved in ((whole, False), (half, True)):
        for bench in benches:
            print(bench.environment.name, bench.steps, flush=True)
            measure(bench, by, halved)
    shuffle(whole, first)
    told = tell(whole, half, by.tuned)
    (DOCS / "lhopt_heldout.json").write_text(json.dumps(told, indent=1) + "\n")
    draw(whole, told)
    print(tables(told))


if __name__ == "__main__":
    main()
