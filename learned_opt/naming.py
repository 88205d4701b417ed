"""Messages for names that do not exist."""

import difflib
from collections.abc import Iterable


def nearest(name: str, allowed: Iterable[str]) -> str:
    """'; did you mean X?' where something allowed comes close, else nothing."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def check_name(what: str, name: str, allowed: Iterable[str]) -> None:
    """Raises ValueError unless `name` is allowed, naming the nearest and all that are."""
    names = sorted(allowed)
    if name not in names:
        raise ValueError(
            f"{what}: unknown name {name!r}{nearest(name, names)} (allowed: {', '.join(names)})"
        )
