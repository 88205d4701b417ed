"""Weight files: a safetensors file whose header holds one JSON card. Reading executes nothing."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.files import write_whole
from learned_opt.foreign import HEAD, kind_of_file
from learned_opt.locate import WeightsError, locate, packaged
from learned_opt.naming import nearest
from learned_opt.registry import LEARNED
from learned_opt.spec import build_rule, spec_of, translated

__all__ = [
    "FORMAT",
    "WeightsError",
    "card",
    "locate",
    "named_leaves",
    "packaged",
    "read",
    "write",
]

FORMAT = 1
CARD_KEY = "learned_opt"
LARGEST_HEADER = 16 * 2**20  # bytes; a real one has a few thousand


def write(path: str | Path, rule: LearnedOptimizer, theta: Theta, card: dict[str, Any]) -> None:
    """Writes a rule and its weights as one file, whole or not at all.

    theta: what `rule.init` gives, finite. card: JSON values on where the weights come from and what
    they are good for; non-finite numbers become null, and "format", "kind" and "spec" are set here.
    Raises WeightsError, and OSError where the file cannot be written.
    """
    path = Path(path)
    kinds = [kind for kind, of in LEARNED.items() if of is type(rule)]
    if not kinds:
        raise WeightsError(f"{path}: {type(rule).__name__} is not in the registry of learned rules")
    leaves = {
        name: np.ascontiguousarray(leaf).reshape(leaf.shape)
        for name, leaf in named_leaves(jax.device_get(theta)).items()
    }
    _check_leaves(path, leaves, named_leaves(_expected(rule)))
    header = {**card, "format": FORMAT, "kind": kinds[0], "spec": spec_of(rule)}
    try:
        text = json.dumps(_plain(header), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path}: the card cannot be written as JSON: {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, safetensors.numpy.save(leaves, metadata={CARD_KEY: text}))


def read(name_or_path: str | Path) -> tuple[Any, Theta, dict[str, Any]]:
    """A rule, its weights and its card.

    name_or_path: a packaged name, a weight file, a run folder, or a folder with one weight file.
    The weights are float32 arrays in the tree that `rule.init` gives. Raises WeightsError.
    """
    path = locate(name_or_path)
    header = card(path)
    kind = header["kind"]
    try:
        rule = build_rule(LEARNED[kind], translated(kind, header["spec"]))
        expected = _expected(rule)
    except (TypeError, ValueError, OverflowError, MemoryError) as error:
        raise WeightsError(f"{path}: {kind}: {error}") from None
    try:
        leaves = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: damaged or not a safetensors file: {error}") from None
    names = named_leaves(expected)
    _check_leaves(path, leaves, names)
    theta = jax.tree.unflatten(
        jax.tree.structure(expected), [jnp.asarray(leaves[name]) for name in names]
    )
    return rule, theta, header


def card(name_or_path: str | Path) -> dict[str, Any]:
    """The card of a weight file, from its header alone.

    It always has "format" (1), "kind" (a learned rule's registry name) and "spec" (its choices).
    Raises WeightsError.
    """
    path = locate(name_or_path)
    _check_container(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: damaged or not a safetensors file: {error}") from None
    if CARD_KEY not in metadata:
        raise WeightsError(f"{path}: a safetensors file, but not of learned-opt: it has no card")
    try:
        header = json.loads(metadata[CARD_KEY])
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: the card is not valid JSON: {error}") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: the card is {type(header).__name__}, not an object")
    _check_card(path, header)
    return header


def _check_card(path: Path, header: dict[str, Any]) -> None:
    version = header.get("format")
    if type(version) is not int or version < 1:
        raise WeightsError(f"{path}: the card's format is {version!r}; it must be {FORMAT}")
    if version > FORMAT:
        raise WeightsError(
            f"{path}: written in format {version}; this learned-opt reads up to format {FORMAT}, "
            "a newer release reads this file"
        )
    kind = header.get("kind")
    if not isinstance(kind, str) or kind not in LEARNED:
        raise WeightsError(
            f"{path}: unknown kind {kind!r}{nearest(str(kind), LEARNED)} "
            f"(allowed: {', '.join(sorted(LEARNED))})"
        )
    if not isinstance(header.get("spec"), dict):
        raise WeightsError(f"{path}: the card has no spec, or one that is not an object")


def _check_container(path: Path) -> None:
    """Names what the file is when it cannot be safetensors, from its first bytes and its size."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None
    if size == 0:
        raise WeightsError(f"{path}: the file is empty")
    if head[8:9] != b"{":
        if what := kind_of_file(head):
            raise WeightsError(f"{path}: this is {what}, not a safetensors file")
        raise WeightsError(f"{path}: not a safetensors file, or cut off in its first bytes")
    length = int.from_bytes(head[:8], "little")
    if length > LARGEST_HEADER:
        raise WeightsError(
            f"{path}: claims a header of {length} bytes, more than the {LARGEST_HEADER} allowed"
        )
    if length > size - 8:
        raise WeightsError(
            f"{path}: cut off: its header takes {length} bytes and the file has {size}"
        )


def _expected(rule: LearnedOptimizer) -> Any:
    """theta's tree as shapes and dtypes: in files weights are float32, whatever JAX computes in."""
    with jax.enable_x64(False):
        return jax.eval_shape(rule.init, jax.random.key(0))


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree in its order, by the path to them: "tensor_gru/weights"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def _check_leaves(path: Path, leaves: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    """Raises WeightsError with every difference at once."""
    problems = [f"{name}: missing" for name in expected if name not in leaves]
    for name, leaf in sorted(leaves.items()):
        if name not in expected:
            problems.append(f"{name}: not part of this rule")
            continue
        want = expected[name]
        if leaf.shape != want.shape:
            problems.append(f"{name}: shape {leaf.shape}, must be {want.shape}")
        if leaf.dtype != want.dtype:
            problems.append(f"{name}: {leaf.dtype}, must be {want.dtype}")
        bad = int(leaf.size - np.isfinite(leaf.astype(np.float32)).sum())
        if bad:
            problems.append(f"{name}: {bad} of {leaf.size} values are not finite")
    if problems:
        raise WeightsError(f"{path}: " + "; ".join(problems))


def _plain(value: Any) -> Any:
    """Numpy scalars as Python's, tuples as lists, non-finite numbers as None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
