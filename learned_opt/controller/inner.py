"""The optimizer that a controller drives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from learned_opt.base import Params
from learned_opt.hand.ciao import DEFAULTS, Quantities, ciao_init, ciao_step
from learned_opt.hand.hyperparameters import Scalar


@runtime_checkable
class Inner(Protocol):
    """An optimizer whose hyperparameters are given anew at every step."""

    @property
    def eps(self) -> float:
        """What denominators are compared with where eps is not controlled."""
        ...

    def init(self, params: Params) -> Any:
        """The state before the first step."""
        ...

    def step(
        self,
        gradients: Params,
        state: Any,
        params: Params,
        hyper: Mapping[str, Scalar],
        extra: Mapping[str, Any],
    ) -> tuple[Params, Any, Quantities]:
        """(updates, state, what the step was made of); extra: what `update` is given beside."""
        ...


@dataclass(frozen=True)
class Ciao:
    """CIAO, what controllers are trained on; `fixed`: values other than its defaults."""

    fixed: tuple[tuple[str, float], ...] = ()

    @property
    def eps(self) -> float:
        return (DEFAULTS | dict(self.fixed))["eps"]

    def init(self, params: Params) -> Any:
        return ciao_init(params)

    def step(
        self,
        gradients: Params,
        state: Any,
        params: Params,
        hyper: Mapping[str, Scalar],
        extra: Mapping[str, Any],
    ) -> tuple[Params, Any, Quantities]:
        del extra
        return ciao_step(gradients, state, params, {**dict(self.fixed), **hyper})
