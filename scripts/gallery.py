"""Writes docs/tasks.md and its pictures: every task family, what it costs, how Adam does on it.

python scripts/gallery.py
"""

import inspect
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from learned_opt.registry import HAND_DESIGNED
from meta_train.inner.horizons import Fixed
from meta_train.inner.unroll import Episodes, start, unroll
from tasks.cost import cost
from tasks.registry import FAMILIES

matplotlib.use("svg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = DOCS / "images" / "tasks"
STEPS, TASKS, POINTS = 320, 4, 40
RATES = (1e-3, 1e-2, 1e-1)
INTRODUCTION = """# Task families

Every kind a config can name under `tasks:`, at its default sizes. A curve is the training loss
under Adam at one rate: the median of four tasks of the family, averaged over neighbouring steps.
Parameters are what the optimizer updates, operations those of one loss and its gradient.
`python scripts/gallery.py` writes this page; `learned-opt bench tasks` measures the time of a step.
"""


def curves(family) -> np.ndarray:
    """(rates, points): smoothed training losses."""
    rule = HAND_DESIGNED["adam"]
    episodes = Episodes(family, rule, Fixed(STEPS))
    data = jax.tree.map(jnp.asarray, family.load())

    @jax.jit
    def run(data, rate):
        theta = {"log_learning_rate": jnp.log(rate)}

        def one(key):
            start_key, key = jax.random.split(key)
            inner = start(episodes, data, theta, start_key, 0)
            return unroll(episodes, data, theta, inner, key, 0, STEPS)[1].loss

        return jax.vmap(one)(jax.random.split(jax.random.key(0), TASKS))

    losses = np.stack([np.asarray(run(data, jnp.float32(rate))) for rate in RATES])
    return np.median(losses, 1).reshape(len(RATES), POINTS, -1).mean(-1)


def draw(kind: str, found: np.ndarray) -> None:
    figure, axes = plt.subplots(figsize=(3.6, 1.9), layout="constrained")
    steps = (np.arange(POINTS) + 0.5) * STEPS / POINTS
    for rate, curve in zip(RATES, found, strict=True):
        axes.plot(steps, curve, label=f"{rate:g}")
    finite = found[np.isfinite(found)]
    if finite.min() > 0 and finite.max() > 20 * finite.min():
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(title="rate", fontsize=7, title_fontsize=7)
    figure.savefig(PICTURES / f"{kind}.svg", metadata={"Date": None})
    plt.close(figure)


def section(kind: str, family) -> str:
    found = cost(family)
    about = inspect.getdoc(type(family)) or ""
    sizes = f"{found.parameters:,} parameters, {found.operations:,} operations a step."
    picture = f"![Loss of {kind} under Adam](images/tasks/{kind}.svg)"
    return f"\n## {kind}\n\n{about}\n\n{sizes}\n\n{picture}\n"


def main() -> int:
    matplotlib.rcParams.update(
        {"svg.hashsalt": "learned-opt", "font.size": 8, "svg.fonttype": "none"}
    )
    PICTURES.mkdir(parents=True, exist_ok=True)
    text = INTRODUCTION
    for kind in sorted(FAMILIES):
        family = FAMILIES[kind]()
        if kind in (sys.argv[1:] or FAMILIES):
            draw(kind, curves(family))
            print(kind, flush=True)
        text += section(kind, family)
    (DOCS / "tasks.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
