"""What there is to choose from: rows with a name and a line about it."""

import sys
from typing import Any

Rows = list[dict[str, Any]]


def _first_line(about: Any) -> str:
    return (about.__doc__ or "").strip().partition("\n")[0]


def optimizers() -> Rows:
    """Learned rules and hand-designed ones, these with all that steers them."""
    from learned_opt.registry import HAND_DESIGNED, LEARNED

    rows = [
        {"name": n, "about": _first_line(sys.modules[of.__module__]), "learned": True}
        for n, of in LEARNED.items()
    ]
    for name, rule in HAND_DESIGNED.items():
        wants = [extra for extra in rule.needs if extra != "params"]
        about = f"{rule.formula}{'; update needs ' if wants else ''}{', '.join(wants)}"
        row = {"name": name, "about": about, "learned": False, "formula": rule.formula}
        row |= {"source": rule.source, "needs": list(rule.needs)}
        row |= {"learning_rate": rule.learning_rate, "defaults": rule.defaults}
        row["controls"] = {
            control: {"scale": range_.scale, "low": range_.low, "high": range_.high}
            for control, range_ in rule.controls.items()
        }
        row["state_bytes_per_parameter"] = rule.state_bytes()
        rows.append(row)
    return rows


def tasks() -> Rows:
    """Task families, as a config names them."""
    from tasks.registry import FAMILIES

    return [{"name": name, "about": _first_line(of)} for name, of in FAMILIES.items()]


def suites() -> Rows:
    """Suites, the tasks in them and what decides whether scores may be compared."""
    from tasks.suites import SUITES, fingerprint

    rows = []
    for name, suite in SUITES.items():
        names = [family.name for family in suite.families]
        about = f"{len(names)} tasks, {suite.steps} steps: {', '.join(names)}"
        row = {"name": name, "about": about, "tasks": names, "steps": suite.steps}
        rows.append({**row, "version": suite.version, "fingerprint": fingerprint(name)})
    return rows


def pretrained() -> Rows:
    """The weights that ship with the package."""
    from learned_opt import io

    rows = []
    for name, path in io.packaged().items():
        card = io.card(path)
        about = f"{card['kind']}, {card.get('meta_steps', '?')} meta-steps"
        rows.append({"name": name, "about": about, "file": str(path), "card": card})
    return rows


LISTS = {"optimizers": optimizers, "pretrained": pretrained, "suites": suites, "tasks": tasks}
