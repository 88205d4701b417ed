"""The problems the hierarchical RNN optimizer was meta-trained on (1703.04813), set by set.

Two lists: `PAPER_LIKE`, the 131 entries that fit the paper's description, without networks;
`CODE_DEFAULT`, the 101 entries that the released code turns on. Their mends: noise inside a sum is
applied, and classifiers have a true softmax cross-entropy over both columns of the logits. Where
the released code fixes the seed of generated examples, they are the same for every task here too.
"""

import math

from tasks.base import TaskFamily
from tasks.distributions.base import Listed
from tasks.families.convex import Bowl, Norm
from tasks.families.matmul import MatMulAlgorithm
from tasks.families.slow_problems import (
    DependencyChain,
    MinMaxWell,
    OutwardSnake,
    ProjectionQuadratic,
    SumOfQuadratics,
)
from tasks.families.synthetic import Function2D, Quadratic
from tasks.families.two_classes import (
    LogisticRegression,
    RandomMLPClassifier,
    SparseSoftmaxRegression,
)
from tasks.families.wrappers import LogObjective, Rescale, SparseGradient, SumOfTasks

Set = tuple[TaskFamily, ...]

_DATA_SEED = 123
_NINE = (
    "ackley", "beale", "booth", "branin", "log_sum_exp", "matyas", "michalewicz", "rosenbrock",
    "styblinski_tang",
)  # fmt: skip
# Condition and angle.
_BOWLS = ((0.1, 0.0), (1.0, 0.0), (5.0, 0.0), (5.0, math.pi / 4))
# Features, separation, batch size and, in the noisy set, noise.
_CLUSTERS = ((10, 2.0, 100, 0.5), (100, 1.0, 50, 0.1), (200, 1.5, 20, 0.1), (256, 1.5, 100, 0.5))
# Features, widths, batch size.
_MLPS = (
    (8, (8, 5), 10),
    (12, (8, 5, 3), 200),
    (5, (4, 4, 4, 4), 100),
    (11, (4, 5, 6), 64),
    (9, (8,), 128),
    (7, (8, 5), 16),
    (8, (32, 64), 10),
    (12, (16, 8, 3), 200),
    (5, (8, 8, 8, 8), 100),
    (11, (10, 12, 12), 64),
    (9, (32,), 128),
    (7, (32, 64), 16),
)
# Power or dim, and scale.
_RESCALED_NORMS = ((2.5, 0.123), (1.5, 8.0), (2.0, 50.0), (3.0, 200.0), (1.0, 1000.0))
_RESCALED_QUADRATICS = ((20, 0.1), (25, 10.0), (50, 350.0), (100, 132.0))
_SUMMED = (11, 3, 9, 7, 5, 13, 12)
# Dim, examples, batch size of the sums over data; the snakes have fewer examples in two places.
_SQUARES = (
    (20, 1000, 100), (12, 100, 10), (56, 5000, 100), (64, 1000, 50), (13, 10000, 50),
    (20, 1000, 128), (12, 100, 16), (56, 5000, 128), (64, 1000, 64), (13, 10000, 32),
)  # fmt: skip
_SNAKES = (*_SQUARES[:1], (12, 200, 10), *_SQUARES[2:6], (12, 300, 16), *_SQUARES[7:])


def _label(*parts: str | float) -> str:
    """The parts joined into a name, "-" for the decimal point."""
    return "_".join(
        f"{part:g}" if isinstance(part, float) else str(part) for part in parts
    ).replace(".", "-")


def _quadratic(dim: int, noise: float = 0.0) -> Quadratic:
    ending = ("noise", noise) if noise else ()
    return Quadratic(dim, noise, name=_label("quadratic", dim, *ending))


def _bowl(condition: float, angle: float = 0.0, noise: float = 0.0) -> Bowl:
    turned, noisy = ("turned",) if angle else (), ("noise", noise) if noise else ()
    return Bowl(condition, angle, noise, _label("bowl", condition, *turned, *noisy))


def _norm(dim: int, power: float, noise: float = 0.0) -> Norm:
    ending = ("noise", noise) if noise else ()
    return Norm(dim, power, noise, name=_label("norm", dim, "power", power, *ending))


def _clusters(
    features: int, separation: float, batch_size: int, noise: float = 0.0
) -> LogisticRegression:
    ending = ("noise", noise) if noise else ()
    name = _label("logistic_regression", features, *ending)
    return LogisticRegression(features, 1000, separation, batch_size, noise, _DATA_SEED, name)


def _mlp(features: int, widths: tuple[int, ...], batch_size: int) -> RandomMLPClassifier:
    name = _label("random_mlp", features, *widths)
    return RandomMLPClassifier(features, widths, examples=1000, batch_size=batch_size, name=name)


def _rescaled(family: TaskFamily, scale: float) -> Rescale:
    return Rescale(family, scale, _label(family.name, "rescaled", scale))


def _sum(name: str, *families: TaskFamily) -> SumOfTasks:
    return SumOfTasks(families, name)


def _over_data(
    kind: type[SumOfQuadratics] | type[ProjectionQuadratic] | type[OutwardSnake],
    prefix: str,
    sizes: tuple[tuple[int, int, int], ...],
) -> Set:
    return tuple(
        kind(dim, examples, batch_size, name=_label(prefix, dim, examples, batch_size))
        for dim, examples, batch_size in sizes
    )


_functions = tuple(Function2D(name) for name in _NINE)
_few_bowls = tuple(_bowl(condition) for condition, angle in _BOWLS if not angle)
_transformed: Set = (*map(_quadratic, (20, 50, 100)), *_few_bowls)

SETS: dict[str, Set] = {
    "quadratic": tuple(map(_quadratic, (20, 25, 50, 100))),
    "quadratic_noisy": (
        _quadratic(20, 0.5),
        Quadratic(25, name="quadratic_25_noiseless"),
        _quadratic(50, 1.0),
        _quadratic(100, 2.0),
    ),
    "quadratic_large": tuple(map(_quadratic, (784, 1024, 2048))),
    "bowl": tuple(_bowl(*bowl) for bowl in _BOWLS),
    "bowl_noisy": tuple(_bowl(*bowl, noise=0.1) for bowl in _BOWLS),
    "softmax": tuple(_clusters(*sizes[:3]) for sizes in _CLUSTERS),
    "softmax_noisy": tuple(_clusters(*sizes) for sizes in _CLUSTERS),
    "functions": _functions,
    "functions_noisy": tuple(Function2D(name, 1.0) for name in _NINE),
    "mlp": tuple(_mlp(*sizes) for sizes in _MLPS),
    "matmul": tuple(
        MatMulAlgorithm(size, products, name=_label("matmul", size, products))
        for size, range_ in ((2, range(5, 9)), (3, range(19, 25)))
        for products in range_
    ),
    "log_objective": tuple(map(LogObjective, _transformed)),
    "rescale": (
        *(_rescaled(_norm(18, power), scale) for power, scale in _RESCALED_NORMS),
        *(_rescaled(_quadratic(dim), scale) for dim, scale in _RESCALED_QUADRATICS),
    ),
    "norm": (_norm(27, 1.0), _norm(25, 2.0), _norm(22, 3.0)),
    "norm_noisy": (_norm(19, 1.0, 0.1), _norm(26, 2.0, 0.1), _norm(23, 3.0, 0.1)),
    "sum": (
        _sum("sum_quadratics", *map(_quadratic, _SUMMED)),
        _sum(
            "sum_norm_quadratic_rosenbrock",
            _norm(18, 3.0),
            _quadratic(25),
            Function2D("rosenbrock"),
        ),
        _sum("sum_functions", *_functions),
        _sum("sum_functions_quadratics", *_functions, _quadratic(5), _quadratic(13)),
        _sum("sum_two_quadratics", _quadratic(11), _quadratic(3)),
        _sum("sum_three_functions", *map(Function2D, ("rosenbrock", "log_sum_exp", "ackley"))),
    ),
    "sum_noisy": (
        _sum("sum_quadratics_noisy", *(_quadratic(dim, 0.1) for dim in _SUMMED)),
        _sum("sum_functions_quadratics_noisy", *_functions, _quadratic(5), _quadratic(13, 0.5)),
    ),
    "sparse_gradient": tuple(map(SparseGradient, _transformed)),
    "sparse_gradient_mlp": tuple(SparseGradient(_mlp(*sizes)) for sizes in _MLPS[:3]),
    "sparse_softmax": (SparseSoftmaxRegression(seed=_DATA_SEED, name="sparse_softmax"),),
    "one_hot_sparse_softmax": (
        SparseSoftmaxRegression(one_hot=True, seed=_DATA_SEED, name="one_hot_sparse_softmax"),
    ),
    "sum_of_quadratics": _over_data(SumOfQuadratics, "sum_of_quadratics", _SQUARES),
    "projection_quadratic": _over_data(ProjectionQuadratic, "projection_quadratic", _SQUARES),
    "outward_snake": _over_data(OutwardSnake, "outward_snake", _SNAKES),
    # The released code gives the chains the snakes' data, which they ignore: each comes twice.
    "dependency_chain": tuple(
        DependencyChain(dim, name=_label("dependency_chain", dim, "again" if i > 4 else "once"))
        for i, (dim, _, _) in enumerate(_SNAKES)
    ),
    "min_max_well": tuple(
        MinMaxWell(dim, name=_label("min_max_well", dim)) for dim in (20, 12, 56, 64, 13)
    ),
}

_SLOW = (
    "sum_of_quadratics",
    "projection_quadratic",
    "outward_snake",
    "dependency_chain",
    "min_max_well",
)
_NETWORKS = ("mlp", "sparse_gradient_mlp")
_OFF = ("quadratic", "sparse_softmax", "one_hot_sparse_softmax")


def _without(*left_out: str) -> Set:
    return tuple(f for name, families in SETS.items() if name not in left_out for f in families)


CODE_DEFAULT = Listed("literature_code", _without(*_OFF, *_SLOW))
PAPER_LIKE = Listed("literature_paper", _without(*_OFF, *_NETWORKS))
