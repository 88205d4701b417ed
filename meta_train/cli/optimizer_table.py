"""The reference of all hand-designed optimizers as Markdown, out of the tables themselves."""

from collections.abc import Mapping
from typing import Any

from learned_opt.hand.hyperparameters import Hyperparameter
from learned_opt.hand.parts.base import Part
from learned_opt.hand.parts.registry import DECAYS, PARTS
from learned_opt.hand.spec import EXTRAS, HandDesigned
from learned_opt.registry import HAND_DESIGNED

HEAD = """\
# Every hand-designed optimizer

This page is written by `learned-opt list optimizers --markdown`; [optimizers.md](optimizers.md)
says how to use what is in it. g: gradient; w: parameters; m, v: averages of g and g^2 with decays
b1 and b2, m_hat and v_hat free of their start at 0; u: the direction, w <- w - rate * u. Bytes: of
state for each float32 parameter, measured on a (256, 512) kernel with its bias. In brackets behind
a hyperparameter's default: where searches and controllers look for it. Choices shape the program
and cannot be traced or steered.
"""
ROW = "| name | formula | source | `update` needs | bytes | rate | hyperparameters | choices |"
PART_ROW = "| name | place | what it does | source | fields |"
TAIL = {"schedule": "constant", "parts": ()}  # what every row would repeat


def reference() -> str:
    """docs/optimizers_table.md."""
    lines = [HEAD, ROW, _rule(ROW)]
    lines += [_entry(entry) for _, entry in sorted(HAND_DESIGNED.items())]
    lines += ["", "`update` takes, beside gradients and state:", ""]
    lines += [f"- `{name}`: {about}" for name, about in EXTRAS.items()]
    lines += ["", "## Parts", "", PART_ROW, _rule(PART_ROW)]
    lines += [_part(name, part) for name, part in sorted(PARTS.items())]
    lines += ["", "## Kinds of weight decay", "", PART_ROW, _rule(PART_ROW)]
    lines += [_part(kind, part) for kind, part in sorted(DECAYS.items())]
    return "\n".join(lines) + "\n"


def _rule(row: str) -> str:
    return "|" + "---|" * (row.count("|") - 1)


def _entry(entry: HandDesigned) -> str:
    ranges = dict(entry.controls)
    low, high = ranges["learning_rate"].low, ranges.pop("learning_rate").high
    chosen = {
        name: value
        for name, value in entry.defaults.items()
        if name not in ranges and TAIL.get(name, ...) != value
    }
    cells = [
        f"`{entry.name}`",
        f"`{entry.formula}`",
        entry.source,
        _names(entry.needs),
        f"{entry.state_bytes():.3g}",
        f"{entry.learning_rate:g} [{low:g}, {high:g}]",
        _fields({name: entry.defaults[name] for name in ranges}, ranges),
        _fields(chosen),
    ]
    return _row(cells)


def _part(name: str, part: Part) -> str:
    fields = _fields(part.defaults, part.controls)
    return _row([f"`{name}`", part.place, part.about, part.source, fields])


def _fields(fields: Mapping[str, Any], ranges: Mapping[str, Hyperparameter] = {}) -> str:
    def one(name: str) -> str:
        text = f"`{name}` {_value(fields[name])}"
        found = ranges.get(name)
        return f"{text} [{found.low:g}, {found.high:g}]" if found else text

    return ", ".join(one(name) for name in fields)


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
