"""Every task family by the kind that a config names."""

from tasks.base import TaskFamily
from tasks.cnn import CNNClassifier
from tasks.language import LanguageModel
from tasks.mlp import DenoisingAutoencoder, MLPClassifier, SoftmaxRegression
from tasks.synthetic import Function2D, MatrixFactorisation, Quadratic, StyblinskiTang

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
