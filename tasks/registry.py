"""Every task family by the kind that a config names."""

from tasks.base import TaskFamily
from tasks.families.algorithmic import BinaryAddition, Parity
from tasks.families.autoencoder import MLPAutoencoder
from tasks.families.badly_scaled import BadlyScaledRegression
from tasks.families.cnn import CNNClassifier
from tasks.families.conv_language import ConvLanguageModel
from tasks.families.convex import Bowl, IsotropicQuadratic, Norm
from tasks.families.convnets import ConvFC, ConvPooling
from tasks.families.flows import MAF, NVP
from tasks.families.functions_nd import FunctionND
from tasks.families.language import LanguageModel
from tasks.families.matmul import MatMulAlgorithm
from tasks.families.mixer import MLPMixer
from tasks.families.mixture_density import MixtureDensityNetwork
from tasks.families.mlp import DenoisingAutoencoder, MLPClassifier, SoftmaxRegression
from tasks.families.noisy_quadratics import NoisyQuadraticModel, RandomQuadratic
from tasks.families.oscillator import OscillatorNetwork
from tasks.families.physics import PoissonNetwork
from tasks.families.recommender import Recommender
from tasks.families.residual_mlp import ResidualMLP
from tasks.families.resnet import ResNet
from tasks.families.slow_problems import (
    DependencyChain,
    MinMaxWell,
    OutwardSnake,
    ProjectionQuadratic,
    SumOfQuadratics,
)
from tasks.families.synthetic import Function2D, MatrixFactorisation, Quadratic
from tasks.families.text_classifier import TextClassifier
from tasks.families.transformer_language import TransformerLanguageModel
from tasks.families.two_classes import (
    LogisticRegression,
    RandomMLPClassifier,
    SparseSoftmaxRegression,
)
from tasks.families.vae import MLPVAE
from tasks.families.vision_transformer import VisionTransformer
from tasks.families.word_language import WordLanguageModel

FAMILIES: dict[str, type[TaskFamily]] = {
    "badly_scaled_regression": BadlyScaledRegression,
    "binary_addition": BinaryAddition,
    "bowl": Bowl,
    "cnn_classifier": CNNClassifier,
    "conv_fc": ConvFC,
    "conv_language_model": ConvLanguageModel,
    "conv_pooling": ConvPooling,
    "denoising_autoencoder": DenoisingAutoencoder,
    "dependency_chain": DependencyChain,
    "function_2d": Function2D,
    "function_nd": FunctionND,
    "isotropic_quadratic": IsotropicQuadratic,
    "language_model": LanguageModel,
    "logistic_regression": LogisticRegression,
    "maf": MAF,
    "matmul_algorithm": MatMulAlgorithm,
    "matrix_factorisation": MatrixFactorisation,
    "min_max_well": MinMaxWell,
    "mixture_density_network": MixtureDensityNetwork,
    "mlp_autoencoder": MLPAutoencoder,
    "mlp_classifier": MLPClassifier,
    "mlp_mixer": MLPMixer,
    "mlp_vae": MLPVAE,
    "noisy_quadratic_model": NoisyQuadraticModel,
    "norm": Norm,
    "nvp": NVP,
    "oscillator_network": OscillatorNetwork,
    "outward_snake": OutwardSnake,
    "parity": Parity,
    "poisson_network": PoissonNetwork,
    "projection_quadratic": ProjectionQuadratic,
    "quadratic": Quadratic,
    "random_mlp_classifier": RandomMLPClassifier,
    "random_quadratic": RandomQuadratic,
    "recommender": Recommender,
    "residual_mlp": ResidualMLP,
    "resnet": ResNet,
    "softmax_regression": SoftmaxRegression,
    "sparse_softmax_regression": SparseSoftmaxRegression,
    "sum_of_quadratics": SumOfQuadratics,
    "text_classifier": TextClassifier,
    "transformer_language_model": TransformerLanguageModel,
    "vision_transformer": VisionTransformer,
    "word_language_model": WordLanguageModel,
}
