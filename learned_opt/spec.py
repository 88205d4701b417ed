"""A rule's static choices as JSON, and back."""

import dataclasses
import types
import typing
from typing import Any

from learned_opt.anchors.registry import ANCHORS
from learned_opt.naming import nearest

_RELATIVE_ADAM = {"kind": "relative_adam"}
# Where a name stood for an anchor: kind of rule -> field and its values.
_NAMED_ANCHORS: dict[str, tuple[str, dict[str, Any]]] = {
    "anchored_mlp": ("anchor", {"nominal": _RELATIVE_ADAM}),
    "hierarchical_rnn": ("output", {"learned_rate": None, "nominal": _RELATIVE_ADAM}),
    "tensor_lstm": ("output", {"direction": None, "nominal": _RELATIVE_ADAM}),
}


def spec_of(rule: Any) -> dict[str, Any]:
    """The fields of a frozen dataclass as JSON values; tuples become lists."""
    return {field.name: as_json(getattr(rule, field.name)) for field in dataclasses.fields(rule)}


def translated(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A spec of this or an older version, for a rule of this kind, as this version writes it."""
    field, anchors = _NAMED_ANCHORS.get(kind, ("", {}))
    old = spec.get(field)
    if not isinstance(old, str) or old not in anchors:
        return spec
    return {name: value for name, value in spec.items() if name != field} | {"anchor": anchors[old]}


def build_rule(kind: type, spec: dict[str, Any]) -> Any:
    """The dataclass `kind` with the fields of `spec`; a field left out keeps its default.

    Raises ValueError naming every unknown field, with the nearest known one, and every value of
    another type than the field's.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    problems = [
        f"spec.{name}: unknown field{nearest(name, fields)} (allowed: {', '.join(fields)})"
        for name in spec
        if name not in fields
    ]
    values = {name: _from_json(value) for name, value in spec.items() if name in fields}
    problems += [
        f"spec.{name}: {value!r} is not {_describe(fields[name])}"
        for name, value in values.items()
        if not _fits(value, fields[name])
    ]
    if problems:
        raise ValueError("; ".join(problems))
    return kind(**values)


def as_json(value: Any) -> Any:
    """A value of a field as JSON. Raises TypeError where it has none."""
    for kind, anchor in ANCHORS.items():
        if type(value) is anchor:
            return {"kind": kind} | spec_of(value)
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{value!r} in a rule's choices cannot be written as JSON")


def _from_json(value: Any) -> Any:
    """Lists become tuples, and a mapping with the kind of an anchor that anchor."""
    if isinstance(value, list):
        return tuple(_from_json(item) for item in value)
    if isinstance(value, dict) and value.get("kind") in ANCHORS:
        fields = {name: item for name, item in value.items() if name != "kind"}
        return build_rule(ANCHORS[value["kind"]], fields)
    return value


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_describe, typing.get_args(hint)))
    for kind, anchor in ANCHORS.items():
        if hint is anchor:
            return f"{{kind: {kind}}}"
    if hint is types.NoneType:
        return "null"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _fits(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(args) == 2 and args[1] is Ellipsis:
            return all(_fits(item, args[0]) for item in value)
        return len(value) == len(args) and all(map(_fits, value, args))
    if hint is None or hint is types.NoneType:
        return value is None
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint
