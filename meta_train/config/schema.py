"""Config models out of frozen dataclasses, so that a registry entry is all a new kind needs."""

import dataclasses
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from learned_opt.anchors.base import Scalar
from learned_opt.anchors.registry import ANCHORS
from learned_opt.spec import spec_of


class Model(BaseModel):
    """A block of the config: immutable, no unknown keys, no conversion between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Described(Model):
    """A block that stands for one dataclass; its keys are `kind` and the dataclass' fields."""

    target: ClassVar[type]

    def build(self, **rest: Any) -> Any:
        """The dataclass; `rest` are the fields that the config does not hold. Raises ValueError."""
        values = {
            field.name: _built(getattr(self, field.name))
            for field in dataclasses.fields(self.target)
            if field.name not in rest
        }
        return self.target(**values, **rest)


def _built(value: Any) -> Any:
    return value.build() if isinstance(value, Described) else value


def presets_of(target: type) -> dict[str, Any]:
    """The instances of `target` that its module names in PRESETS; most modules have none."""
    presets = getattr(sys.modules[target.__module__], "PRESETS", {})
    return {name: rule for name, rule in presets.items() if type(rule) is target}


def with_preset(given: Any, annotation: Any) -> Any:
    """Raw data of a block with every key that its preset holds and `given` does not."""
    kind = given.get("kind") if isinstance(given, dict) else None
    for model in blocks(annotation):
        if kind == kind_of(model) and "preset" in model.model_fields:
            name = given.get("preset", model.model_fields["preset"].default)
            chosen = presets_of(model.target).get(name) if isinstance(name, str) else None
            if chosen is not None:
                return spec_of(chosen) | given | {"preset": name}
    return given


def _field(of: dataclasses.Field) -> Any:
    if of.default is not dataclasses.MISSING:
        return of.default
    if of.default_factory is not dataclasses.MISSING:
        return Field(default_factory=of.default_factory)
    return ...


def describe(
    kind: str | None, target: type, base: type[Described] = Described, without: Iterable[str] = ()
) -> type[Described]:
    """The block for `target`: its fields with their types and defaults, less those in `without`.

    kind: None where there is no choice, and so no such key. A target with presets gets the key
    `preset`; the first is the default.
    """
    hints = typing.get_type_hints(target)
    fields: dict[str, Any] = {} if kind is None else {"kind": (Literal[kind], ...)}
    names = tuple(presets_of(target))
    if names:
        fields["preset"] = (Literal[names], names[0])
    for field in dataclasses.fields(target):
        if field.name not in without:
            hint = _as_config(hints[field.name])
            fields[field.name] = (hint, _as_block(hint, _field(field)))
    model = create_model(target.__name__, __base__=base, __doc__=target.__doc__, **fields)
    model.target = target
    return model


def _as_config(hint: Any) -> Any:
    """The type of a key: a block where the field takes anchors, a number where it may be traced."""
    parts = typing.get_args(hint)
    kinds = {kind: anchor for kind, anchor in ANCHORS.items() if anchor in parts}
    if kinds:
        anchors = union(kinds, Described)
        return anchors | None if types.NoneType in parts else anchors
    return float if hint == Scalar else hint


def _as_block(hint: Any, default: Any) -> Any:
    for model in blocks(hint):
        if type(default) is model.target:
            return model(kind=kind_of(model))
    return default


def union(
    registry: Mapping[str, type],
    base: type[Described] = Described,
    without: Iterable[str] = (),
    others: Iterable[type[Described]] = (),
) -> Any:
    """The type of a block that is one of the kinds of `registry`, or one of the blocks `others`."""
    models = tuple(describe(kind, target, base, without) for kind, target in registry.items())
    models += tuple(others)
    if len(models) == 1:
        return models[0]
    return Annotated[reduce(or_, models), Field(discriminator="kind")]


def blocks(annotation: Any) -> tuple[type[Any], ...]:
    """The models that a value of this type may be: none for plain values, several for a union."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return (annotation,)
    found: tuple[type[Any], ...] = ()
    for part in typing.get_args(annotation):
        found += blocks(part)
    return found


def kind_of(model: type[Model]) -> str | None:
    """The name under which a block's model is chosen, None where there is no choice."""
    field = model.model_fields.get("kind")
    return typing.get_args(field.annotation)[0] if field else None
