"""A published weight file checked leaf by leaf and written as one of this package."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt import io
from learned_opt.locate import SUFFIX, WeightsError
from meta_train.published.container import Published, read
from meta_train.published.formats import FORMATS
from meta_train.published.layouts import Layout, joined


def import_weights(
    kind: str,
    file: Path,
    out: Path,
    chosen: dict[str, Any] | None = None,
    source: str | None = None,
    licence: str | None = None,
) -> dict[str, Any]:
    """Writes `out`, *.safetensors, from published weights, or nothing; gives its card.

    kind: of FORMATS. chosen: choices of the rule that its file does not hold. source, licence: in
    place of the format's; both are needed where it has none. Raises ValueError and WeightsError
    with every difference between the file and what the kind's files hold.
    """
    form = FORMATS[kind]
    if out.suffix != SUFFIX:
        raise ValueError(f"{out}: the name of a weight file ends in {SUFFIX}")
    missing = [
        name
        for name, value in (("--source", source or form.source), ("--licence", licence))
        if not (value or (name == "--licence" and form.licence))
    ]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)}: needed, as several projects publish {kind} weights"
        )
    published = read(file)
    layout = form.layout(published, chosen or {})
    _check(kind, published, layout)
    expected = jax.eval_shape(layout.rule.init, jax.random.key(0))
    leaves = [
        jnp.asarray(joined(layout, published.leaves, name, leaf.shape))
        for name, leaf in io.named_leaves(expected).items()
    ]
    theta = jax.tree.unflatten(jax.tree.structure(expected), leaves)
    card = {
        "made_by": f"learned-opt import {kind}",
        "source": source or form.source,
        "licence": licence or form.licence,
        "imported": {"file": file.name, "sha256": published.sha256},
        "notes": list(form.notes),
    }
    if published.step is not None:
        card["meta_steps"] = published.step
    io.write(out, layout.rule, theta, card)
    return io.card(out)


def _check(kind: str, file: Published, layout: Layout) -> None:
    """Raises WeightsError with every difference between a file's leaves and the layout's."""
    expected = layout.shapes()
    problems = [f"{name}: missing" for name in expected if name not in file.leaves]
    for name, leaf in sorted(file.leaves.items()):
        if name not in expected:
            problems.append(f"{name}: not part of {kind} weights")
        elif not isinstance(leaf, np.ndarray):
            problems.append(f"{name}: {type(leaf).__name__}, must be an array")
        else:
            if leaf.shape != expected[name]:
                problems.append(f"{name}: shape {leaf.shape}, must be {expected[name]}")
            if leaf.dtype != np.float32:
                problems.append(f"{name}: {leaf.dtype}, must be float32")
            elif bad := int(leaf.size - np.isfinite(leaf).sum()):
                problems.append(f"{name}: {bad} of {leaf.size} values are not finite")
    if problems:
        raise WeightsError(f"{file.path}: " + "; ".join(problems) + _other(kind, file))


def _other(kind: str, file: Published) -> str:
    """A hint where the leaves are those of another kind; no config is asked."""
    shapes = {name: getattr(leaf, "shape", None) for name, leaf in file.leaves.items()}
    bare = file._replace(checkpoint=False)
    fits = [
        other
        for other, form in FORMATS.items()
        if other != kind and shapes == form.layout(bare, {}).shapes()
    ]
    return f" (its leaves are those of: {', '.join(fits)})" if fits else ""
