"""The synthetic tasks of TaskSet (2002.11887): quadratics, and problems from 1703.04813."""

import math
from collections.abc import Callable

from tasks.base import TaskFamily
from tasks.distributions.draws import Draws
from tasks.families.convex import Bowl, Norm
from tasks.families.noisy_quadratics import RandomQuadratic
from tasks.families.slow_problems import (
    DependencyChain,
    MinMaxWell,
    OutwardSnake,
    ProjectionQuadratic,
    SumOfQuadratics,
)
from tasks.families.synthetic import FUNCTIONS, Function2D, Quadratic
from tasks.families.two_classes import RandomMLPClassifier, SparseSoftmaxRegression
from tasks.families.wrappers import LogObjective, Rescale, SparseGradient

_MATRICES = ("normal", "uniform", "linspace", "logspace")
_FUNCTIONS = tuple(sorted(set(FUNCTIONS) - {"booth", "saddle"}))


def quadratic(draws: Draws) -> TaskFamily:
    return RandomQuadratic(
        dim=draws.log_int(2, 3000),
        matrix=draws.choice(_MATRICES),
        shaking=draws.choice(_MATRICES) if draws.chance(0.5) else None,
        start=draws.choice(("normal", "uniform")),
        output=draws.choice(("identity", "log")),
    )


def _noise(draws: Draws) -> float:
    """Standard deviation of the gradient noise, of which half the tasks have none."""
    return draws.log_uniform(0.01, 10.0) if draws.chance(0.5) else 0.0


def _bowl(draws: Draws) -> TaskFamily:
    angle = draws.choice((0.0, 0.0, math.pi / 4, math.pi / 3))
    return Bowl(condition=draws.log_uniform(0.01, 100.0), angle=angle, noise=_noise(draws))


def _sparse_softmax(draws: Draws) -> TaskFamily:
    return SparseSoftmaxRegression(
        features=draws.log_int(2, 100),
        batch_size=draws.integer(1, 50),
        examples=draws.integer(1, 30),
        noise=_noise(draws),
    )


def _fully_connected(draws: Draws) -> TaskFamily:
    return RandomMLPClassifier(
        features=draws.integer(1, 16),
        widths=tuple(draws.log_int(4, 32) for _ in range(draws.integer(2, 5))),
        batch_size=draws.integer(1, 200),
        examples=draws.integer(1, 30),
        noise=_noise(draws),
    )


def _norm(draws: Draws) -> TaskFamily:
    # The source draws powers from 0.1; below 1 the gradients overflow.
    return Norm(dim=draws.integer(3, 1000), power=draws.uniform(1.0, 5.0), noise=_noise(draws))


def _on_data(kind: type) -> Callable[[Draws], TaskFamily]:
    def build(draws: Draws) -> TaskFamily:
        return kind(
            dim=draws.integer(3, 100),
            batch_size=draws.integer(1, 200),
            examples=2 * draws.integer(50, 10_000),
            noise=_noise(draws),
        )

    return build


_PLAIN: tuple[Callable[[Draws], TaskFamily], ...] = (
    lambda draws: Quadratic(dim=draws.log_int(10, 1000), noise=_noise(draws)),
    _bowl,
    _sparse_softmax,
    lambda draws: Function2D(draws.choice(_FUNCTIONS), noise=_noise(draws)),
    _fully_connected,
    _norm,
    lambda draws: DependencyChain(dim=draws.integer(10, 1000), noise=_noise(draws)),
    _on_data(OutwardSnake),
    lambda draws: MinMaxWell(dim=draws.integer(10, 1000), noise=_noise(draws)),
    _on_data(SumOfQuadratics),
    _on_data(ProjectionQuadratic),
)


def _plain(draws: Draws) -> TaskFamily:
    return draws.choice(_PLAIN)(draws)


def losg(draws: Draws) -> TaskFamily:
    """One of fourteen types with the same probability: eleven problems, three wrappers of them."""
    build = draws.choice(
        (
            *_PLAIN,
            lambda draws: SparseGradient(_plain(draws), draws.uniform(0.9, 0.99)),
            lambda draws: Rescale(_plain(draws), draws.log_uniform(1e-3, 1e3)),
            lambda draws: LogObjective(_plain(draws)),
        )
    )
    return build(draws)
