"""Named sets of tasks, split in advance: some choose a checkpoint, some only ever judge it.

No config of this package trains on a held-out task. Styblinski and Tang's function, the matrix
factorisation, the two tables, the autoencoder and the LSTM on its corpus are of kinds that none
trains on. digits_layer_norm and digits_cnn are closer to training: the digits, training split
included, are the same, and the networks differ in depth, normalisation, activation and channels.
The documentation text, which differs between Python versions, is in training and selection only.
"""

import dataclasses
import hashlib
import json
from typing import Any

from tasks.base import TaskFamily
from tasks.data import DATASETS
from tasks.families.cnn import CNNClassifier
from tasks.families.language import LanguageModel
from tasks.families.mlp import DenoisingAutoencoder, MLPClassifier
from tasks.families.synthetic import MatrixFactorisation, StyblinskiTang
from tasks.names import check_name

_STYBLINSKI_TANG = StyblinskiTang(dim=30, name="styblinski_tang_30")
_MATRIX = MatrixFactorisation(size=30, rank=3, seed=0, name="matrix_factorisation")
_WINE = MLPClassifier(dataset="wine", widths=(16, 16), activation="elu", name="wine_elu")
_BREAST_CANCER = MLPClassifier(
    dataset="breast_cancer",
    widths=(24,),
    activation="tanh",
    loss="squared_hinge",
    name="breast_cancer_hinge",
)
_AUTOENCODER = DenoisingAutoencoder(widths=(32, 12, 32), name="digits_autoencoder")
_LAYER_NORM = MLPClassifier(
    widths=(32, 32, 32), activation="silu", norm="layer", name="digits_layer_norm"
)
_CNN = CNNClassifier(channels=(16, 24), stride=2, groups=4, activation="silu", name="digits_cnn")
_LSTM = LanguageModel(cell="lstm", dataset="corpus", embed=16, hidden=32, name="corpus_lstm")

SUITES: dict[str, tuple[TaskFamily, ...]] = {
    "heldout_quick": (_STYBLINSKI_TANG, _MATRIX, _WINE, _AUTOENCODER, _LSTM),
    "heldout_small": (
        _STYBLINSKI_TANG,
        _MATRIX,
        _WINE,
        _BREAST_CANCER,
        _AUTOENCODER,
        _LAYER_NORM,
        _CNN,
        _LSTM,
    ),
    "selection_small": (
        MLPClassifier(widths=(24, 24), activation="gelu", image_size=4, name="digits_4x4_gelu"),
        LanguageModel(cell="gru", dataset="documentation", name="documentation_gru"),
    ),
}


def describe(family: TaskFamily) -> dict[str, Any]:
    """The kind and all fields of a family, with the version of the data it reads."""
    fields = dataclasses.asdict(family)  # pyright: ignore[reportArgumentType]
    dataset = getattr(family, "dataset", None)
    version = {"data_version": DATASETS[dataset].version} if dataset in DATASETS else {}
    return {"family": type(family).__name__, **fields, **version}


def fingerprint(suite: str) -> str:
    """The SHA-256 of a suite's description: equal where scores may be compared."""
    check_name("suite", suite, SUITES)
    text = json.dumps([describe(family) for family in SUITES[suite]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
