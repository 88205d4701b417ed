"""Parametric families of VeLO's meta-training (2211.09760), on the data every machine has.

The published ranges are kept, less what local images are too small for. Its filter by predicted
time is a `Limit` here, and the tasks that train another learned optimizer are left out.
"""

from functools import partial
from typing import Any

from tasks.base import TaskFamily
from tasks.distributions.base import Drawn
from tasks.distributions.draws import Draws
from tasks.families.autoencoder import MLPAutoencoder
from tasks.families.convnets import ConvPooling
from tasks.families.language import LanguageModel
from tasks.families.mlp import MLPClassifier
from tasks.families.resnet import ResNet
from tasks.families.transformer_language import TransformerLanguageModel
from tasks.families.vae import MLPVAE
from tasks.families.vision_transformer import VisionTransformer
from tasks.info import info

Names = tuple[str, ...]

_ACTIVATIONS = ("relu", "relu6", "selu", "tanh", "cos", "sin", "sigmoid", "silu", "gelu",
                "leaky_relu_40")  # fmt: skip
_INITIALIZERS = ("orthogonal", "uniform", "lecun_normal")
_DYNAMIC: dict[str, Any] = {"initial_scale": (0.5, 2.0)}


def _int(draws: Draws, low: int, high: int) -> int:
    """As the source draws integers: it truncates instead of rounding."""
    return int(draws.log_uniform(low, high))


def _start(draws: Draws) -> dict:
    return {
        "activation": draws.choice(_ACTIVATIONS, (2, *(1,) * (len(_ACTIVATIONS) - 1))),
        "initializer": draws.choice(_INITIALIZERS, (1, 1, 2)),
        **_DYNAMIC,
    }


def _images(draws: Draws, images: Names, low: int = 4) -> dict:
    dataset = draws.choice(images)
    return {
        "dataset": dataset,
        "image_size": _int(draws, low, info(dataset).shape[0]),
        "batch_size": _int(draws, 4, 512),
    }


def _same_widths(draws: Draws, low: int = 8) -> tuple[int, ...]:
    return (_int(draws, low, 128),) * draws.integer(0, 4)


def image_mlp(draws: Draws, images: Names) -> TaskFamily:
    return MLPClassifier(widths=_same_widths(draws), **_start(draws), **_images(draws, images))


def image_conv(draws: Draws, images: Names) -> TaskFamily:
    depth, doubled = draws.integer(1, 3), draws.integer(0, 2)
    return ConvPooling(
        channels=(_int(draws, 4, 64),) * depth,
        strides=tuple(2 if layer < doubled else 1 for layer in range(depth)),
        pooling="mean",
        **_start(draws),
        **_images(draws, images),
    )


def image_mlp_ae(draws: Draws, images: Names) -> TaskFamily:
    return MLPAutoencoder(
        widths=_same_widths(draws),
        output=draws.choice(("linear", "sigmoid")),
        centre=draws.chance(0.5),
        **_start(draws),
        **_images(draws, images),
    )


def image_mlp_vae(draws: Draws, images: Names) -> TaskFamily:
    return MLPVAE(
        encoder=_same_widths(draws, 4),
        decoder=_same_widths(draws, 4),
        latent=_int(draws, 2, 128),
        centre=draws.chance(0.5),
        **_start(draws),
        **_images(draws, images),
    )


def resnet(draws: Draws, images: Names) -> TaskFamily:
    pattern = draws.choice(((1, 1, 1, 1), (1, 2, 4, 8), (1, 2, 2, 4), (1, 2, 2, 2), (1, 2, 4, 4)))
    width = 4 * _int(draws, 2, 64)  # group norm wants multiples of its four groups
    most = _int(draws, 1, 10)
    return ResNet(
        channels=tuple(factor * width for factor in pattern),
        blocks=tuple(_int(draws, 1, most) for _ in pattern),
        strides=(1, 2, 2, 2),
        initial_channels=4 * _int(draws, 2, 16),
        max_pool=draws.chance(0.5),
        **_images(draws, images, low=8),
    )


def lm_rnn(draws: Draws, texts: Names) -> TaskFamily:
    return LanguageModel(
        cell=draws.choice(("vanilla", "gru", "lstm")),
        dataset=draws.choice(texts),
        vocabulary=min(256, _int(draws, 100, 10000)),
        embed=_int(draws, 8, 256),
        hidden=_int(draws, 8, 256),
        sequence=_int(draws, 4, 512),
        batch_size=_int(draws, 4, 512),
        **_DYNAMIC,
    )


def lm_transformer(draws: Draws, texts: Names) -> TaskFamily:
    heads = _int(draws, 1, 8)
    return TransformerLanguageModel(
        dataset=draws.choice(texts),
        layers=_int(draws, 1, 8),
        heads=heads,
        hidden=heads * _int(draws, 8, 128),
        sequence=_int(draws, 4, 512),
        batch_size=_int(draws, 4, 512),
        dropout=0.1,
    )


def vit(draws: Draws, images: Names) -> TaskFamily:
    heads = _int(draws, 1, 16)
    dataset = draws.choice(images)
    side = info(dataset).shape[0]
    return VisionTransformer(
        dataset=dataset,
        batch_size=_int(draws, 4, 512),
        layers=_int(draws, 1, 16),
        heads=heads,
        hidden=heads * _int(draws, 8, 32),
        mlp=_int(draws, 32, 512),
        patch=draws.choice(tuple(size for size in (2, 4, 8, 16) if side % size == 0)),
        dropout=draws.uniform(0.0, 0.8) if draws.chance(0.7) else 0.0,
    )


def velo(
    name: str = "velo",
    images: Names = ("digits", "patches"),
    texts: Names = ("documentation",),
) -> Drawn:
    """The distribution on other datasets, each kind equally likely."""
    on_images = {
        "image_mlp": image_mlp,
        "image_conv": image_conv,
        "image_mlp_ae": image_mlp_ae,
        "image_mlp_vae": image_mlp_vae,
        "resnet": resnet,
        "vit": vit,
    }
    on_texts = {"lm_rnn": lm_rnn, "lm_transformer": lm_transformer}
    draw = {
        **{kind: partial(build, images=images) for kind, build in on_images.items()},
        **{kind: partial(build, texts=texts) for kind, build in on_texts.items()},
    }
    return Drawn(name, tuple((kind, 1.0, build) for kind, build in draw.items()))


VELO = velo()
