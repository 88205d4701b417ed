"""What is wrong with a config, one line per problem."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from learned_opt.naming import nearest
from meta_train.config.schema import Model, blocks, kind_of

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """A message about the key at `path`; () is the whole file."""

    path: Path
    message: str


class ConfigError(ValueError):
    """A config cannot be used; the text has one line per problem: SOURCE: path: message."""

    def __init__(
        self, source: str, problems: Sequence[Problem], origin: Mapping[Path, str] | None = None
    ) -> None:
        """origin: which override set a path; problems inside it name that source."""
        self.lines = []
        for path, message in problems:
            given = [path[:n] for n in range(len(path), 0, -1) if path[:n] in (origin or {})]
            where = (origin or {})[given[0]] if given else source
            self.lines.append(": ".join(part for part in (where, dotted(path), message) if part))
        super().__init__("\n".join(self.lines))

    @classmethod
    def join(cls, errors: Sequence["ConfigError"]) -> "ConfigError":
        joined = cls("", [])
        joined.lines = [line for error in errors for line in error.lines]
        joined.args = ("\n".join(joined.lines),)
        return joined


def dotted(path: Path) -> str:
    return ".".join(map(str, path))


_MUST_BE = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_type": "an integer",
    "list_type": "a list",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "none_required": "null",
    "string_type": "text",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def explain(error: ValidationError, data: Any, root: type[Model]) -> list[Problem]:
    """pydantic's errors about `data` as problems, sorted by path; one per path."""
    problems: dict[Path, str] = {}
    for item in sorted(error.errors(include_url=False), key=lambda item: -len(item["loc"])):
        problem = _problem(item, *_locate(item["loc"], data, root))
        # A list whose entries are all wrong is then called too short as well.
        implied = item["type"] == "too_short" and any(
            path[: len(problem.path)] == problem.path for path in problems
        )
        if not implied:
            problems.setdefault(problem.path, problem.message)
    return [Problem(*item) for item in sorted(problems.items(), key=lambda i: str(i[0]))]


Models = tuple[type[Model], ...]


def _locate(loc: Sequence[str | int], data: Any, root: type[Model]) -> tuple[Path, Models, Models]:
    """The path in the user's file, and the models that what is around and at its end may be.

    pydantic's locations also hold the kinds it went through; those are no keys of the file.
    """
    path: Path = ()
    models: Models = (root,)
    around = models
    for part in loc:
        if isinstance(data, dict):
            kind = data.get("kind")
            around = tuple(m for m in models if kind_of(m) in (None, kind)) or models
            fields = [m.model_fields[part] for m in around if part in m.model_fields]
            if part not in data and not fields:
                continue
            data = data.get(str(part))
            models = blocks(fields[0].annotation) if fields else ()
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        path += (part,)
    return path, around, models


def _problem(item: Any, path: Path, around: Models, models: Models) -> Problem:
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = list(around[0].model_fields)
        message = f"unknown key{nearest(str(path[-1]), allowed)} (allowed: {', '.join(allowed)})"
        return Problem(path, message)
    if kind == "missing":
        return Problem(path, "missing")
    if kind == "union_tag_not_found":
        kinds = [kind_of(model) or "" for model in models]
        return Problem((*path, "kind"), f"missing (allowed: {', '.join(kinds)})")
    if kind == "union_tag_invalid":
        kinds = [kind_of(model) or "" for model in models]
        return Problem((*path, "kind"), _not_one_of(value.get("kind"), kinds))
    if kind == "literal_error":
        return Problem(path, _not_one_of(value, _literals(context["expected"])))
    if kind in _MUST_BE:
        return Problem(path, f"{show(value)} is not allowed; it must be {_MUST_BE[kind]}")
    if kind in ("too_short", "string_too_short"):
        return Problem(path, f"{show(value)} is not allowed; it must not be empty")
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        must = f"{words} {context[bound]:g}"
        return Problem(path, f"{show(value)} is not allowed; it must be {must}")
    return Problem(path, f"{show(value)} is not allowed; {item['msg']}")


def _literals(expected: str) -> list[str]:
    return [name.strip().strip("'") for name in expected.replace(" or ", ",").split(",")]


def _not_one_of(value: Any, allowed: Sequence[str]) -> str:
    hint = nearest(value, allowed) if isinstance(value, str) else ""
    return f"{show(value)} is not allowed{hint} (allowed: {', '.join(allowed)})"


def show(value: Any) -> str:
    """A value as it stands in the file, cut to 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
