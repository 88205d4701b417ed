"""Weights out of a run folder, as one file for users."""

from pathlib import Path
from typing import Any

import jax

from learned_opt import io
from learned_opt.locate import SUFFIX
from meta_train import config as configs
from meta_train.checkpoint import read_arrays

AVERAGE = "learner/theta_average"


def export_run(run: Path, file: Path, step: int | None = None) -> dict[str, Any]:
    """Writes the best weights of a run, or its averaged weights at a checkpoint; gives the card.

    run: a run folder (or what io.read takes). file: *.safetensors. step: meta-step of a checkpoint
    that is still there. Raises WeightsError, ConfigError and CheckpointError.
    """
    if file.suffix != SUFFIX:
        raise ValueError(f"{file}: the name of a weight file ends in {SUFFIX}")
    if step is None:
        rule, theta, card = io.read(run)
    else:
        rule = configs.load(run / "config.yaml").optimizer.build()
        arrays = read_arrays(run / "checkpoints", step)
        card = {**io.card(run), "meta_steps": step}
        card.pop("selection_score", None)
        leaves, tree = jax.tree_util.tree_flatten_with_path(
            jax.eval_shape(rule.init, jax.random.key(0))
        )
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
        theta = jax.tree.unflatten(tree, [arrays[f"{AVERAGE}/{name}"] for name in names])
    io.write(file, rule, theta, card)
    return io.card(file)
