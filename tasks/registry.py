"""Every task family by the kind that a config names."""

from tasks.base import TaskFamily
from tasks.families.cnn import CNNClassifier
from tasks.families.language import LanguageModel
from tasks.families.mlp import DenoisingAutoencoder, MLPClassifier, SoftmaxRegression
from tasks.families.synthetic import Function2D, MatrixFactorisation, Quadratic, StyblinskiTang

FAMILIES: dict[str, type[TaskFamily]] = {
    "cnn_classifier": CNNClassifier,
    "denoising_autoencoder": DenoisingAutoencoder,
    "function_2d": Function2D,
    "language_model": LanguageModel,
    "matrix_factorisation": MatrixFactorisation,
    "mlp_classifier": MLPClassifier,
    "quadratic": Quadratic,
    "softmax_regression": SoftmaxRegression,
    "styblinski_tang": StyblinskiTang,
}
