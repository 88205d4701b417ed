"""The reference of all config keys as Markdown, out of the models themselves."""

import inspect
import types
import typing
from typing import Any

from pydantic_core import PydanticUndefined

from learned_opt.spec import spec_of
from meta_train.config.loading import CHANGEABLE
from meta_train.config.model import Config
from meta_train.config.schema import Described, Model, blocks, kind_of, presets_of
from meta_train.yaml_subset import dump

HEAD = """\
# The config, key by key

`learned-opt config check FILE [key=value ...]` says whether a file can be run, `config show` prints
it with every key filled in. Overrides use dots, and numbers for the entries of a list:
`tasks.1.weight=2`. A file is YAML of a strict kind: `1e-4` is a number, `on` is text, a duplicate
or unknown key is an error, nothing is ever executed. When a run is resumed, only {changeable}
may differ; another `steps` stretches the cosine schedule of the meta-learning rate anew over all of
them, so the rate jumps where the run goes on. This page is written by `learned-opt config
reference`.
"""


def reference() -> str:
    changeable = ", ".join(f"`{key}`" for key in CHANGEABLE)
    lines = [HEAD.format(changeable=changeable), "| key | type | default | meaning |"]
    lines.append("|---|---|---|---|")
    sections: list[str] = []
    for name, field in Config.model_fields.items():
        lines.append(_row(name, field))
        models = blocks(field.annotation)
        if models:
            sections += ["", f"## {name}", ""]
        for model in models:
            sections += _block(model)
    return "\n".join(lines + sections) + "\n"


def _block(model: type[Model]) -> list[str]:
    kind = kind_of(model)
    return [f"### kind: {kind}", "", *_keys(model)] if kind else _keys(model)


def _keys(model: type[Model]) -> list[str]:
    lines = [inspect.cleandoc(model.__doc__ or ""), ""]
    rows = [_row(name, field) for name, field in model.model_fields.items() if name != "kind"]
    if rows:
        lines += ["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""]
    if issubclass(model, Described):
        for name, field in model.model_fields.items():
            for inner in blocks(field.annotation):
                kind = kind_of(inner)
                lines += [f"#### {name}" + (f", kind: {kind}" if kind else ""), "", *_keys(inner)]
    presets = presets_of(model.target) if issubclass(model, Described) else {}
    for name, preset in presets.items():
        first = spec_of(next(iter(presets.values())))
        differing = {k: v for k, v in spec_of(preset).items() if v != first[k]}
        if differing:
            listed = ", ".join(f"`{key}: {_value(value)}`" for key, value in differing.items())
            lines += [f"Preset `{name}` differs from the first in {listed}.", ""]
    return lines


def _row(name: str, field: Any) -> str:
    default = "required"
    if field.default is not PydanticUndefined:
        default = "see below" if isinstance(field.default, Model) else f"`{_value(field.default)}`"
    about = (field.description or "").replace("|", "\\|")
    return f"| `{name}` | {_type(field.annotation)} | {default} | {about} |"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return dump(value, in_line=True)


def _type(hint: Any) -> str:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if blocks(hint):
        many = origin is tuple or any(typing.get_origin(part) is tuple for part in parts)
        return "list of blocks" if many else "block"
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is typing.Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in parts)
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    plain = {int: "integer", float: "number", bool: "true, false", str: "text"}
    return "null" if hint is types.NoneType else plain.get(hint, str(hint))
