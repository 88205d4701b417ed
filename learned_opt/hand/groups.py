"""Different rules for different parameters, by their paths."""

import re
from collections.abc import Sequence

import jax
import optax

from learned_opt.base import Params
from learned_opt.hand.paths import path_of

REST = "rest"


def grouped(
    rest: optax.GradientTransformation, groups: Sequence[tuple[str, optax.GradientTransformation]]
) -> optax.GradientTransformationExtraArgs:
    """Each parameter goes to the first group whose pattern is found in its path, else to `rest`.

    groups: (regular expression, transformation). Paths are written as dense/kernel.
    """

    def label(path: jax.tree_util.KeyPath, leaf: object) -> str:
        del leaf
        found = (str(i) for i, (p, _) in enumerate(groups) if re.search(p, path_of(path)))
        return next(found, REST)

    def labels(params: Params) -> Params:
        return jax.tree_util.tree_map_with_path(label, params)

    rules = {str(i): tx for i, (_, tx) in enumerate(groups)}
    return optax.partition({**rules, REST: rest}, labels)
