"""The continuous numbers inside a weight decay and inside parts, by names of their own."""

from collections.abc import Mapping
from typing import Any

from learned_opt.hand.parts.registry import DECAYS, PARTS


def inner_numbers(hyperparameters: Mapping[str, Any]) -> dict[str, float]:
    """`weight_decay` for the value of a kind, PART_FIELD for the fields of parts, with values.

    A part that is named twice has none: its two would share their names.
    """
    found: dict[str, float] = {}
    decay = hyperparameters.get("weight_decay")
    if isinstance(decay, Mapping):
        steered = "value" in DECAYS[decay.get("kind", "decoupled")].controls
        found |= {"weight_decay": decay["value"]} if steered and "value" in decay else {}
    names = [_name(part) for part in hyperparameters.get("parts", ())]
    for part, name in zip(hyperparameters.get("parts", ()), names, strict=True):
        if names.count(name) == 1:
            fields = PARTS[name].defaults | ({} if isinstance(part, str) else dict(part))
            found |= {f"{name}_{field}": fields[field] for field in PARTS[name].controls}
    return found


def with_inner(hyperparameters: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters with `numbers`, named as by `inner_numbers`, put where they belong."""
    placed = dict(hyperparameters)
    if "weight_decay" in numbers:
        placed["weight_decay"] = dict(placed["weight_decay"]) | {"value": numbers["weight_decay"]}

    def with_fields(part: Any) -> Any:
        name = _name(part)
        named = {field: f"{name}_{field}" for field in PARTS[name].controls}
        given = {field: numbers[n] for field, n in named.items() if n in numbers}
        return ({"name": name} if isinstance(part, str) else dict(part)) | given

    placed["parts"] = [with_fields(part) for part in placed.get("parts", ())]
    return placed


def _name(part: Any) -> str:
    return part if isinstance(part, str) else str(part.get("name"))
