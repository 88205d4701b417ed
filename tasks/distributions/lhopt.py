"""The weighted mixture of small tasks that LHOPT's controller was trained on (2106.00958).

Its image sets are replaced by the digits, its film sentences by generated reviews, its texts by
Python's documentation. What an environment adds to a task (number of outer steps, epochs, a
multiplier on its length) belongs to the controller's training and is not here.
"""

from functools import partial

from tasks.base import TaskFamily
from tasks.distributions.base import Drawn
from tasks.distributions.draws import Draws
from tasks.families.algorithmic import BinaryAddition, Parity
from tasks.families.cnn import CNNClassifier
from tasks.families.mlp import MLPClassifier
from tasks.families.noisy_quadratics import NoisyQuadraticModel
from tasks.families.text_classifier import TextClassifier
from tasks.families.transformer_language import TransformerLanguageModel

Names = tuple[str, ...]

_CELLS = ("vanilla", "gru", "lstm")
_STANDARD = ("relu", "elu", "leaky_relu_10", "leaky_relu_20")
_RANDOM = (*_STANDARD, "tanh", "sigmoid", "celu")


def nqm(draws: Draws) -> TaskFamily:
    return NoisyQuadraticModel(dim=draws.log_int(10, 10000))


def algorithmic(draws: Draws) -> TaskFamily:
    kind = draws.choice((Parity, BinaryAddition))
    return kind(
        cell=draws.choice(_CELLS),
        hidden=draws.log_int(16, 128),
        layers=draws.integer(1, 2),
        batch_size=draws.log_int(32, 256),
        dropout=draws.uniform(0.0, 0.5),
        difficulty=(0.0, 1.0),
    )


def _mlp(draws: Draws, images: Names, activations: Names, losses: Names) -> TaskFamily:
    return MLPClassifier(
        dataset=draws.choice(images),
        widths=(draws.log_int(32, 512),) * draws.integer(1, 7),
        activation=draws.choice(activations),
        norm=draws.choice(("none", "layer")),
        dropout=draws.uniform(0.0, 0.2 if len(losses) == 1 else 0.5),
        loss=draws.choice(losses),
        batch_size=draws.log_int(50, 200),
    )


def image_standard(draws: Draws, images: Names) -> TaskFamily:
    if draws.chance(0.5):
        return _mlp(draws, images, _STANDARD, ("cross_entropy",))
    width = draws.log_int(1, 4)
    return CNNClassifier(
        dataset=draws.choice(images),
        channels=(8 * width, 16 * width),
        groups=draws.choice((0, 4)),
        activation=draws.choice(_STANDARD),
        batch_size=draws.log_int(50, 200),
    )


def image_random(draws: Draws, images: Names) -> TaskFamily:
    return _mlp(draws, images, _RANDOM, ("cross_entropy", "mse", "mae", "huber"))


def text_rnn(draws: Draws) -> TaskFamily:
    return TextClassifier(
        cell=draws.choice(_CELLS),
        hidden=draws.log_int(16, 64),
        embed=draws.log_int(32, 128),
        batch_size=draws.log_int(16, 128),
    )


def text_transformer(draws: Draws, texts: Names) -> TaskFamily:
    context = draws.choice((16, 32, 64, 128))
    return TransformerLanguageModel(
        dataset=draws.choice(texts),
        layers=draws.integer(1, 3),
        heads=draws.choice((2, 4, 8)),
        hidden=draws.choice((64, 128)),
        sequence=context,
        batch_size=draws.choice((512, 1024)) // context,
    )


def lhopt(
    name: str = "lhopt", images: Names = ("digits",), texts: Names = ("documentation",)
) -> Drawn:
    """The distribution on other datasets, with the published weights."""
    return Drawn(
        name,
        (
            ("nqm", 1.0, nqm),
            ("algorithmic", 20.0, algorithmic),
            ("image_standard", 10.0, partial(image_standard, images=images)),
            ("image_random", 10.0, partial(image_random, images=images)),
            ("text_rnn", 10.0, text_rnn),
            ("text_transformer", 23.0, partial(text_transformer, texts=texts)),
        ),
    )


LHOPT = lhopt()
