"""Small neural tasks as TaskSet samples them (2002.11887), on the data every machine has.

The published ranges of sizes, activations and initializers are kept. The image sets are replaced by
the digits and the photograph patches, the texts by Python's documentation, the film reviews by
generated ones; `taskset` takes other datasets. Numbers that need no other program (scale of the
start, amount of data) are drawn for every task anew.
"""

from collections.abc import Callable
from functools import partial

from tasks.base import TaskFamily
from tasks.distributions.base import Drawn
from tasks.distributions.draws import Draws
from tasks.distributions.taskset_synthetic import losg, quadratic
from tasks.families.autoencoder import MLPAutoencoder
from tasks.families.convnets import ConvFC, ConvPooling
from tasks.families.flows import MAF, NVP
from tasks.families.language import LanguageModel
from tasks.families.mlp import MLPClassifier
from tasks.families.text_classifier import TextClassifier
from tasks.families.vae import MLPVAE
from tasks.families.word_language import WordLanguageModel

Names = tuple[str, ...]

_ACTIVATIONS = ("relu", "tanh", "cos", "elu", "sigmoid", "silu")
_LEAKY = ("leaky_relu_40", "leaky_relu_20", "leaky_relu_10")
_SCALED = ("orthogonal", "uniform", "normal", "truncated_normal", "lecun_normal")
_UNSCALED = ("he_normal", "he_uniform", "glorot_normal", "glorot_uniform")


def activation(draws: Draws) -> str:
    return draws.choice(_ACTIVATIONS + _LEAKY, (6, 3, 1, 1, 1, 1, 1, 1, 1))


def initializer(draws: Draws) -> dict:
    """Name and bounds of the scale; five of the kinds are used at scales from 0.1 to 10."""
    name = draws.choice(_UNSCALED + _SCALED, (2, 2, 2, 2, 1, 1, 1, 1, 1))
    return {"initializer": name, "initial_scale": (0.1, 10.0) if name in _SCALED else (1.0, 1.0)}


def _widths(draws: Draws, depth: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(draws.log_int(low, high) for _ in range(depth))


def _images(draws: Draws, images: Names) -> dict:
    """Dataset, batch and the part of the data a task sees, 1,000 to all of 50,000 in the source."""
    return {
        "dataset": draws.choice(images),
        "batch_size": draws.log_int(8, 256),
        "subset": (0.1, 1.0),
        "centre": draws.chance(0.5),
    }


def mlp(draws: Draws, images: Names) -> TaskFamily:
    return MLPClassifier(
        widths=_widths(draws, draws.integer(1, 6), 16, 128),
        activation=activation(draws),
        **initializer(draws),
        **_images(draws, images),
    )


def mlp_ae(draws: Draws, images: Names) -> TaskFamily:
    output = draws.choice(("tanh", "sigmoid", "linear_centred", "linear"), (2, 2, 1, 1))
    centred = output in ("tanh", "linear_centred")
    return MLPAutoencoder(
        widths=_widths(draws, draws.integer(1, 6), 32, 128),
        activation=activation(draws),
        output=output.removesuffix("_centred"),
        loss=draws.choice(("mse", "mae"), (2, 1)),
        reduction=draws.choice(("mean", "sum")),
        **initializer(draws),
        **{**_images(draws, images), "centre": centred},
    )


def mlp_vae(draws: Draws, images: Names) -> TaskFamily:
    encoder = _widths(draws, draws.integer(1, 4), 32, 128)
    return MLPVAE(
        encoder=encoder,
        decoder=_widths(draws, draws.integer(1, 3), 32, 128),
        latent=encoder[-1],
        activation=activation(draws),
        **initializer(draws),
        **_images(draws, images),
    )


def _convolutions(draws: Draws, images: Names) -> dict:
    depth = draws.integer(1, 5)
    return {
        "channels": _widths(draws, depth, 8, 64),
        "strides": draws.choice(("all_two", "one_two", "two_one")),
        "padding": tuple(draws.choice(("same", "valid")) for _ in range(depth)),
        "activation": activation(draws),
        "bias": draws.chance(0.5),
        **initializer(draws),
        **_images(draws, images),
    }


def _fitting(build: Callable[[], TaskFamily]) -> TaskFamily:
    """Draws again where unpadded convolutions shrink these small images to nothing."""
    while True:
        try:
            return build()
        except ValueError:
            continue


def conv_fc(draws: Draws, images: Names) -> TaskFamily:
    return _fitting(
        lambda: ConvFC(
            widths=_widths(draws, draws.integer(0, 3), 32, 128), **_convolutions(draws, images)
        )
    )


def conv_pooling(draws: Draws, images: Names) -> TaskFamily:
    return _fitting(
        lambda: ConvPooling(
            pooling=draws.choice(("mean", "max", "squared_mean")), **_convolutions(draws, images)
        )
    )


def _core(draws: Draws) -> dict:
    return {
        "cell": draws.choice(("vanilla", "gru", "lstm")),
        "hidden": draws.log_int(32, 128),
        "embed": draws.log_int(8, 128),
    }


def char_rnn(draws: Draws, texts: Names) -> TaskFamily:
    return LanguageModel(
        dataset=draws.choice(texts),
        vocabulary=256 if draws.chance(0.8) else draws.log_int(100, 256),
        sequence=draws.log_int(10, 160),
        batch_size=draws.log_int(8, 512),
        trainable_start=draws.chance(0.5),
        **_core(draws),
    )


def word_rnn(draws: Draws, texts: Names) -> TaskFamily:
    return WordLanguageModel(
        dataset=draws.choice(texts),
        vocabulary=draws.log_int(1000, 30000),
        sequence=draws.log_int(10, 256),
        batch_size=draws.log_int(8, 512),
        trainable_start=draws.chance(0.5),
        **_core(draws),
    )


def rnn_text_classification(draws: Draws) -> TaskFamily:
    return TextClassifier(
        vocabulary=draws.log_int(100, 10000),
        pooling=draws.choice(("last", "average", "max")),
        batch_size=draws.log_int(8, 512),
        **_core(draws),
    )


def _flow(kind: type, draws: Draws, images: Names) -> TaskFamily:
    return kind(
        bijectors=draws.integer(1, 4),
        widths=_widths(draws, draws.integer(1, 2), 16, 128),
        activation=activation(draws),
        dataset=draws.choice(images),
        batch_size=draws.log_int(8, 256),
    )


def taskset(
    name: str = "taskset",
    images: Names = ("digits", "patches"),
    texts: Names = ("documentation",),
) -> Drawn:
    """The distribution on other datasets, each kind equally likely."""
    on_images = {
        "mlp": mlp,
        "mlp_ae": mlp_ae,
        "mlp_vae": mlp_vae,
        "conv_fc": conv_fc,
        "conv_pooling": conv_pooling,
        "maf": partial(_flow, MAF),
        "nvp": partial(_flow, NVP),
    }
    on_texts = {"char_rnn": char_rnn, "word_rnn": word_rnn}
    draw = {
        "quadratic": quadratic,
        "losg": losg,
        **{kind: partial(build, images=images) for kind, build in on_images.items()},
        **{kind: partial(build, texts=texts) for kind, build in on_texts.items()},
        "rnn_text_classification": rnn_text_classification,
    }
    return Drawn(name, tuple((kind, 1.0, build) for kind, build in draw.items()))


TASKSET = taskset()
