"""What a hyperparameter may be, by its name, which is optax's spelling."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from jaxtyping import Array

from learned_opt.naming import nearest

Scalar = float | Array  # a hyperparameter, which may be traced
Scale = Literal["log", "one_minus", "linear"]


class Hyperparameter(NamedTuple):
    """A continuous hyperparameter.

    scale: in what it is searched and controlled: log10 x, log10(1 - x) or x itself. low, high: the
    range of searches and controllers. least, most: what is allowed; `open` leaves these two out.
    """

    scale: Scale
    low: float
    high: float
    least: float = 0.0
    most: float = math.inf
    open: bool = False

    @property
    def allowed(self) -> str:
        """The bounds in words."""
        if self.most == math.inf:
            return "above 0" if self.open else f"at least {self.least:g}"
        if self.open:
            return f"above {self.least:g} and below {self.most:g}"
        return f"at least {self.least:g} and below {self.most:g}"

    def admits(self, value: float) -> bool:
        above = value > self.least if self.open else value >= self.least
        return math.isfinite(value) and above and value < self.most


_DECAY = Hyperparameter("one_minus", 0.7, 1 - 1e-5, most=1.0)
HYPERPARAMETERS: dict[str, Hyperparameter] = {
    "learning_rate": Hyperparameter("log", 1e-6, 1.0, open=True),
    "b1": Hyperparameter("one_minus", 0.5, 0.997, most=1.0),
    "momentum": Hyperparameter("one_minus", 0.5, 0.997, most=1.0),
    "beta": Hyperparameter("one_minus", 0.5, 0.997, most=1.0),
    "b2": _DECAY,
    "b3": _DECAY,
    "decay": _DECAY,
    "weight_decay": Hyperparameter("log", 1e-6, 1.0),
    "eps": Hyperparameter("log", 1e-12, 1e-2),
    "eps_root": Hyperparameter("log", 1e-12, 1e-2),
    "max_norm": Hyperparameter("log", 1e-3, 10.0, open=True),
    "clipping": Hyperparameter("log", 1e-3, 10.0, open=True),
}


def check_hyperparameters(
    owner: str,
    given: Mapping[str, Any],
    accepted: Mapping[str, Any],
    known: Mapping[str, Hyperparameter] = HYPERPARAMETERS,
) -> None:
    """Raises ValueError for a name `owner` does not take and for a value that it cannot have.

    That is a plain number out of its bounds, and what is no bool where the default is one.
    accepted: name -> default. known: name -> what it may be; arrays and schedules pass.
    """
    for name, value in given.items():
        if name not in accepted:
            raise ValueError(
                f"{owner}.{name}: unknown hyperparameter{nearest(name, accepted)} "
                f"(accepted: {', '.join(sorted(accepted)) or 'none'})"
            )
        if isinstance(accepted[name], bool) and not isinstance(value, bool):
            raise ValueError(f"{owner}.{name}: {value!r} is not allowed; it must be True or False")
        bounds = known.get(name)
        if bounds is None or not _plain(value):
            continue
        if isinstance(value, bool | str) or not bounds.admits(value):
            raise ValueError(
                f"{owner}.{name}: {value!r} is not allowed; it must be {bounds.allowed}"
            )


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)
