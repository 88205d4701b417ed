"""A strict subset of YAML 1.2 as text: what a config file may contain, read and written."""

import re
from collections.abc import Iterable
from typing import Any

import yaml


class YamlError(ValueError):
    """The text is not in the subset; the message says where and why."""


_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_PADDED = re.compile(r"[-+]?0[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?$")
_NUMBER_STARTS = list("-+.0123456789")


class _Loader(yaml.SafeLoader):
    """Plain scalars are null, true, false, decimal numbers or text, as YAML 1.2 has it."""

    yaml_implicit_resolvers: dict = {}

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise YamlError(f"line {mark.line + 1}: aliases are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        seen = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise YamlError(f"line {line}: key {key!r} must be text")
            if key in seen:
                raise YamlError(f"line {line}: key {key!r} was given already in line {seen[key]}")
            seen[key] = line
        return super().construct_mapping(node, deep)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    if len(text) > 30:
        raise YamlError(f"line {node.start_mark.line + 1}: a number of {len(text)} digits")
    return int(text)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)))


def _refuse_padded(loader: _Loader, node: yaml.ScalarNode) -> Any:
    text = loader.construct_scalar(node)
    raise YamlError(
        f"line {node.start_mark.line + 1}: {text}: a number must not start with a zero "
        f'(write it without, or in quotes "{text}" if it is text)'
    )


# Order matters: the first pattern that fits wins, so that 1 stays an integer.
for _tag, _pattern, _starts in (
    ("tag:yaml.org,2002:null", re.compile(r"(~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("tag:yaml.org,2002:int", _INT, _NUMBER_STARTS),
    ("tag:yaml.org,2002:float", _FLOAT, _NUMBER_STARTS),
    ("!padded", _PADDED, _NUMBER_STARTS),
):
    _Loader.add_implicit_resolver(_tag, _pattern, _starts)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
_Loader.add_constructor("!padded", _refuse_padded)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that this subset or YAML 1.1 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, _NUMBER_STARTS)
_Dumper.add_implicit_resolver("!padded", _PADDED, _NUMBER_STARTS)


def parse(text: str) -> Any:
    """Plain data from YAML text: dicts with text keys, lists, text, numbers, true, false, null.

    1e-4 is a number, on and yes are text. Refused: duplicate keys, numbers with leading zeros,
    aliases and tags (nothing is ever executed). Raises YamlError.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise YamlError(f"{where}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise YamlError(str(error).replace("\n", " ")) from None
    except RecursionError:
        raise YamlError("nested too deeply") from None


def parse_pairs(owner: str, pairs: Iterable[str]) -> dict[str, Any]:
    """key -> value of texts such as `learning_rate=1e-4`, values as `parse` reads them.

    owner: for messages, what the pairs are given to. Raises ValueError.
    """
    found = {}
    for pair in pairs:
        key, *values = pair.split("=")
        if not key or len(values) != 1:
            raise ValueError(f"{owner}: {pair!r} is not allowed; it must be key=value")
        found[key] = parse(values[0])
    return found


def dump(data: Any, in_line: bool = False) -> str:
    """YAML text that `parse` reads back to equal data; small mappings stay on one line.

    in_line: one line for all of it, without its end.
    """
    options: dict[str, Any] = {"default_flow_style": None, "width": 100}
    if in_line:
        options = {"default_flow_style": True, "width": float("inf")}
        data = [data]  # a scalar alone would be followed by an end mark
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, **options)
    return text.rstrip("\n")[1:-1] if in_line else text
