"""Named sets of tasks, split in advance: some choose a checkpoint, some only ever judge it.

The suite `seen` is of tasks that were trained on, to be set beside the held-out ones.

A held-out task differs from every task of every training preset in at least two of its three traits
(architecture, dataset, loss; tasks/traits.py). The datasets wine, breast_cancer, diabetes, shapes
and corpus, the losses squared_hinge and log_cosh, and the architectures below but for the dense
classifier are kept for that: no preset trains on them.
"""

import dataclasses
import hashlib
import json
from typing import Any, NamedTuple

from tasks.base import TaskFamily
from tasks.data import DATASETS
from tasks.families.badly_scaled import BadlyScaledRegression
from tasks.families.cnn import CNNClassifier
from tasks.families.conv_language import ConvLanguageModel
from tasks.families.functions_nd import FunctionND
from tasks.families.language import LanguageModel
from tasks.families.mixer import MLPMixer
from tasks.families.mixture_density import MixtureDensityNetwork
from tasks.families.mlp import MLPClassifier, SoftmaxRegression
from tasks.families.oscillator import OscillatorNetwork
from tasks.families.physics import PoissonNetwork
from tasks.families.recommender import Recommender
from tasks.families.residual_mlp import ResidualMLP
from tasks.families.synthetic import Function2D, MatrixFactorisation, Quadratic
from tasks.families.transformer_language import TransformerLanguageModel
from tasks.names import check_name


class Suite(NamedTuple):
    """steps: updates of a run unless others are asked for. version: rises when tasks change code.

    A task's name is unique within the suite.
    """

    families: tuple[TaskFamily, ...]
    steps: int
    version: int = 1


_LEVY = FunctionND("levy", dim=20)
_MATRIX = MatrixFactorisation(size=30, rank=3, seed=0, name="matrix_factorisation")
_WINE = ResidualMLP("wine", name="wine_residual")
_MIXER = MLPMixer(
    "shapes", patch=3, width=16, token_width=16, channel_width=32, name="shapes_mixer"
)
_CORPUS = ConvLanguageModel(dataset="corpus", name="corpus_conv")

_QUICK = (_LEVY, _MATRIX, _WINE, _MIXER, _CORPUS)
_SMALL = (
    *_QUICK,
    FunctionND("dixon_price", dim=20),
    MLPClassifier(
        dataset="breast_cancer",
        widths=(24,),
        activation="tanh",
        loss="squared_hinge",
        name="breast_cancer_hinge",
    ),
    ResidualMLP("diabetes", loss="log_cosh", name="diabetes_log_cosh"),
    MLPClassifier(
        dataset="shapes",
        widths=(24, 24),
        activation="mish",
        loss="squared_hinge",
        name="shapes_hinge",
    ),
    PoissonNetwork(seed=0, name="poisson"),
    Recommender(seed=0, loss="log_cosh", name="recommender"),
)
_MORE = (
    FunctionND("levy", dim=100),
    FunctionND("dixon_price", dim=50),
    FunctionND("zakharov", dim=10),
    MatrixFactorisation(size=100, rank=8, seed=1, name="matrix_factorisation_100"),
    ResidualMLP("wine", width=24, depth=4, loss="squared_hinge", name="wine_hinge"),
    ResidualMLP("breast_cancer", width=32, depth=3, name="breast_cancer_residual"),
    ResidualMLP("diabetes", width=32, depth=6, loss="mse", name="diabetes_deep"),
    MLPMixer(
        "shapes",
        patch=4,
        width=24,
        token_width=16,
        channel_width=48,
        depth=3,
        loss="squared_hinge",
        name="shapes_mixer_hinge",
    ),
    ConvLanguageModel(dataset="corpus", width=48, depth=4, sequence=32, name="corpus_conv_deep"),
    PoissonNetwork(modes=8, widths=(32, 32, 32), activation="mish", seed=1, name="poisson_waves"),
    Recommender(
        users=200, items=100, true_rank=5, rank=8, loss="log_cosh", seed=1, name="recommender_200"
    ),
)
_FAR = (
    FunctionND("levy", dim=200),
    FunctionND("dixon_price", dim=200),
    MatrixFactorisation(size=300, rank=30, seed=2, name="matrix_factorisation_300"),
    ResidualMLP("breast_cancer", width=160, depth=4, name="breast_cancer_wide"),
    ResidualMLP("diabetes", width=160, loss="log_cosh", name="diabetes_wide"),
    MLPMixer(
        "shapes",
        patch=3,
        width=160,
        token_width=40,
        channel_width=160,
        batch_size=16,
        name="shapes_mixer_wide",
    ),
    ConvLanguageModel(
        dataset="corpus", width=160, depth=4, sequence=32, batch_size=8, name="corpus_conv_wide"
    ),
    PoissonNetwork(modes=6, widths=(160, 160), seed=2, name="poisson_wide"),
    Recommender(
        users=400, items=300, true_rank=10, rank=32, loss="log_cosh", seed=2, name="recommender_400"
    ),
)
_SEEN = (  # in every config that trains packaged weights
    Quadratic(dim=20),
    Function2D("rosenbrock"),
    SoftmaxRegression(),
    MLPClassifier(widths=(16,), initial_scale=(0.5, 2.0), name="digits_mlp"),
    CNNClassifier(),
)

SUITES: dict[str, Suite] = {
    "far": Suite(_FAR, steps=5000),
    "heldout_full": Suite(_SMALL + _MORE, steps=2000),
    "heldout_quick": Suite(_QUICK, steps=1000),
    "heldout_small": Suite(_SMALL, steps=1000),
    "seen": Suite(_SEEN, steps=1000),
    "selection": Suite(
        (
            MLPClassifier(widths=(24, 24), activation="gelu", image_size=4, name="digits_4x4_gelu"),
            MLPClassifier(widths=(32,), batch_size=4, name="digits_batch_4"),
            LanguageModel(cell="gru", dataset="documentation", name="documentation_gru"),
            TransformerLanguageModel(layers=2, name="documentation_transformer"),
            OscillatorNetwork(name="oscillator"),
            MixtureDensityNetwork(name="mixture_density"),
            BadlyScaledRegression(activation="relu", name="badly_scaled"),
        ),
        steps=2000,
        version=2,
    ),
}
HELD_OUT = ("heldout_quick", "heldout_small", "heldout_full", "far")


def describe(family: TaskFamily) -> dict[str, Any]:
    """The kind and all fields of a family, with the version of the data it reads.

    Families among the fields are described in the same way.
    """
    return _plain(family)


def _plain(value: Any) -> Any:
    """A value as JSON takes it; dataclasses become a kind with fields."""
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    source = DATASETS.get(getattr(value, "dataset", ""))
    version = {"data_version": source.version} if source else {}
    return {"kind": type(value).__name__, **fields, **version}


def fingerprint(suite: str) -> str:
    """The SHA-256 of a suite's description: equal where scores may be compared."""
    check_name("suite", suite, SUITES)
    families, steps, version = SUITES[suite]
    about = {
        "version": version,
        "steps": steps,
        "tasks": [describe(family) for family in families],
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
