"""Networks that classify images: convolutional, residual and transformers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks.families.cnn import CNNClassifier
from tasks.families.convnets import POOLINGS, ConvFC, ConvPooling
from tasks.families.resnet import ResNet
from tasks.families.vision_transformer import VisionTransformer

NEW = [ConvFC(), ConvPooling(), ResNet(), VisionTransformer()]
LEARNABLE = [
    *NEW,
    ConvFC(channels=(), widths=(16,), bias=False, name="dense_alone"),
    ConvFC(padding=("same", "valid"), strides="one_two", centre=True, name="padded_once"),
    ConvPooling(pooling="max", activation="tanh", name="max"),
    ConvPooling(pooling="squared_mean", name="squared_mean"),
    ResNet(max_pool=True, kernel=5, name="max_pooled"),
    VisionTransformer(dropout=0.1, patch=4, layers=2, name="with_dropout"),
]


def each(families):
    return pytest.mark.parametrize("family", families, ids=lambda family: family.name)


@functools.cache
def start(family):
    """A task and its parameters."""
    data = jax.tree.map(jnp.asarray, family.load())

    @jax.jit
    def drawn(key):
        cfg = family.sample(key)
        return cfg, family.task(cfg, data).init(key)

    cfg, params = drawn(jax.random.key(0))
    task = family.task(cfg, data)
    return task._replace(
        loss=jax.jit(task.loss), batch=jax.jit(task.batch, static_argnums=1)
    ), params


def size(family):
    task = family.task(family.sample(jax.random.key(0)), None)
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0))))


@pytest.mark.parametrize(
    ("family", "count"),
    [
        (ConvFC(), 72 + 8 + 9 * 128 + 16 + 64 * 32 + 32 + 320 + 10),
        (ConvFC(bias=False, padding="valid", strides="two_one"), 72 + 9 * 128 + 16 * 32 + 320),
        (ConvFC(channels=(), widths=(), image_size=4), 16 * 10 + 10),
        (ConvPooling(dataset="patches", channels=(4,)), 27 * 4 + 4 + 40 + 10),
        (ConvPooling(channels=()), 10 + 10),
        (ResNet(), 72 + (16 + 576 + 16 + 576) + (16 + 1152 + 32 + 2304 + 128) + 32 + 170),
        (
            VisionTransformer(),
            4 * 16 + 16 + 16 * 16 + (4 * 272 + 64 + 2 * 512 + 48) + 32 + 170,
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_weights_are_as_many_as_the_fields_say(family, count):
    assert size(family) == count


@pytest.mark.slow
@each(LEARNABLE)
def test_loss_starts_near_chance_and_falls(family):
    data, optimizer = jax.tree.map(jnp.asarray, family.load()), optax.adam(1e-2)

    @jax.jit
    def train(data, init_key, key):
        task = family.task(family.sample(init_key), data)
        params = task.init(init_key)

        def step(carry, key):
            params, state = carry
            batch = task.batch(key, "train")
            loss, grads = jax.value_and_grad(task.loss)(params, key, batch)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), loss

        (params, _), losses = jax.lax.scan(
            step, (params, optimizer.init(params)), jax.random.split(key, 60)
        )
        return losses, task.loss(params, key, task.whole("test"))

    losses, test = train(data, jax.random.key(0), jax.random.key(1))
    assert 1.5 < losses[0] < 6  # log 10 is 2.3
    assert np.mean(losses[-5:]) < 0.85 * np.log(10) and test < 0.85 * np.log(10)


def test_strides_are_repeated_patterns():
    for pattern, sides in (("all_two", [4, 2, 1]), ("one_two", [8, 4, 4]), ("two_one", [4, 4, 2])):
        explicit = {"all_two": (2, 2, 2), "one_two": (1, 2, 1), "two_one": (2, 1, 2)}[pattern]
        named = ConvFC(channels=(3, 4, 5), strides=pattern, widths=())
        assert size(named) == size(ConvFC(channels=(3, 4, 5), strides=explicit, widths=()))
        _, params = start(named)
        assert params["output"]["weight"].shape == (5 * sides[-1] ** 2, 10)


def test_poolings_in_numpy():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    expected = {"mean": x.mean((1, 2)), "max": x.max((1, 2)), "squared_mean": (x**2).mean((1, 2))}
    assert POOLINGS.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(POOLINGS[name](jnp.float32(x)), value, rtol=1e-5)


def test_conv_fc_loss_against_jax_convolutions():
    family = ConvFC(channels=(3, 4), padding=("valid", "same"), widths=(5,), activation="tanh")
    task, params = start(family)
    params = jax.tree.map(lambda x: x + 0.1, params)  # biases show
    batch = task.batch(jax.random.key(2), "train")
    x = batch["image"].reshape(-1, 8, 8, 1) / 16.0
    for i, padding in enumerate(("VALID", "SAME")):
        layer = params[f"conv{i}"]
        x = jax.lax.conv_general_dilated(
            x, layer["weight"], (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jnp.tanh(x + layer["bias"])
    x = jnp.tanh(x.reshape(32, -1) @ params["dense0"]["weight"] + params["dense0"]["bias"])
    logits = x @ params["output"]["weight"] + params["output"]["bias"]
    expected = -np.mean(jax.nn.log_softmax(logits)[np.arange(32), batch["label"]])
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), expected, rtol=1e-5)


def test_residual_blocks_add_to_what_comes_in():
    """Without their last convolutions, blocks of one shape are identities."""
    one, two = (
        ResNet(channels=(8,), blocks=(1,), strides=(1,)),
        ResNet(channels=(8,), blocks=(3,), strides=(1,)),
    )
    (task, params), (longer, more) = start(one), start(two)
    batch = task.batch(jax.random.key(0), "train")
    more = {**more, **{name: params[name] for name in ("start", "norm", "output")}}
    silent = lambda params: {
        name: {**part, "conv1": jax.tree.map(jnp.zeros_like, part["conv1"])}
        if name.startswith("block")
        else part
        for name, part in params.items()
    }
    key = jax.random.key(0)
    np.testing.assert_array_equal(
        task.loss(silent(params), key, batch), longer.loss(silent(more), key, batch)
    )
    assert task.loss(params, key, batch) != longer.loss(more, key, batch)


def test_positions_tell_equal_patches_apart():
    family = VisionTransformer()
    task, params = start(family)
    batch = task.batch(jax.random.key(0), "train")
    turned = {**batch, "image": batch["image"][:, ::-1]}
    rows = params["position"].reshape(4, 4, -1)
    key = jax.random.key(0)
    assert task.loss(params, key, turned) != task.loss(params, key, batch)
    # Each patch is turned too, and with it the weights that see it.
    patch = params["patch"]["weight"].reshape(2, 2, -1)[::-1].reshape(4, -1)
    mirrored = {
        **params,
        "position": rows[::-1].reshape(16, -1),
        "patch": {**params["patch"], "weight": patch},
    }
    np.testing.assert_allclose(
        task.loss(mirrored, key, turned), task.loss(params, key, batch), rtol=1e-5
    )


@each([VisionTransformer(dropout=0.5), VisionTransformer()])
def test_only_dropout_reads_the_key_of_the_loss(family):
    task, params = start(family)
    batch = task.batch(jax.random.key(0), "train")
    one, two = (task.loss(params, jax.random.key(seed), batch) for seed in (0, 1))
    assert (one != two) == (family.dropout > 0)


@pytest.mark.parametrize("kind", [ConvFC, ConvPooling, ResNet, VisionTransformer])
def test_bounds_and_initializer_reach_the_task(kind):
    family = kind(
        initial_scale=(3.0, 3.0), label_noise=(1.0, 1.0), subset=(0.1, 0.1), initializer="uniform"
    )
    task, params = start(family)
    _, plain = start(kind(initializer="uniform"))
    weight, usual = params["output"]["weight"], plain["output"]["weight"]
    np.testing.assert_allclose(weight, 3 * usual, rtol=1e-6, atol=1e-7)
    assert np.abs(usual).max() <= 0.1
    clean, _ = start(kind(subset=(0.1, 0.1)))
    noisy, right = (
        jax.jit(lambda task=task: [task.whole(split)["label"] for split in ("train", "test")])()
        for task in (task, clean)
    )
    assert (noisy[0] != right[0]).mean() > 0.7
    np.testing.assert_array_equal(noisy[1], right[1])


@each([CNNClassifier(groups=2, channels=(4, 6)), *NEW])
def test_colour_images_of_another_size_are_taken(family):
    other = type(family)(dataset="patches", image_size=12, name="other")
    task, params = start(other)
    batch = task.batch(jax.random.key(0), "train")
    assert batch["image"].shape == (32, 16, 16, 3)
    assert 1.5 < jax.jit(task.loss)(params, jax.random.key(0), batch) < 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvFC(dataset="digit"), "dataset: .*; did you mean digits"),
        (lambda: ConvFC(dataset="wine"), "dataset: unknown name 'wine'"),
        (lambda: ConvFC(image_size=9), "image_size: 9 is not allowed"),
        (lambda: ConvFC(strides="all_too"), "strides: .* did you mean all_two"),
        (lambda: ConvFC(strides=(2,)), r"strides: \(2,\) .* each of the 2 channels"),
        (lambda: ConvFC(strides=(2, 0)), "strides: 0 is not allowed"),
        (lambda: ConvFC(padding="sane"), "padding: .* did you mean same"),
        (lambda: ConvFC(padding=("same",) * 3), "padding: .* each of the 2 channels"),
        (
            lambda: ConvFC(channels=(4, 4, 4), padding="valid"),
            "padding: valid is not allowed; layer 2 gets an image of 1x1, in which a 3x3 kernel",
        ),
        (lambda: ConvPooling(image_size=2, padding="valid"), "layer 0 gets an image of 2x2"),
        (lambda: ConvPooling(channels=(4, 0)), "channels: 0 is not allowed"),
        (lambda: ConvPooling(pooling="maxx"), "pooling: .* did you mean max"),
        (lambda: ConvFC(widths=(0,)), "widths: 0 is not allowed"),
        (lambda: ResNet(blocks=(1,)), r"blocks: \(1,\) .* each of the 2 channels"),
        (lambda: ResNet(channels=()), "channels: 0 is not allowed"),
        (lambda: ResNet(groups=3), "groups: 3 .* all channels .8, 8, 16., as 2 and 4 do"),
        (lambda: ResNet(initializer="he_norm"), "initializer: .* did you mean he_normal"),
        (lambda: VisionTransformer(patch=3), "patch: 3 .* image of 8x8, as 2 and 4 do"),
        (lambda: VisionTransformer(heads=3), "heads: 3 .* hidden 16, as 2 and 4 do"),
        (lambda: VisionTransformer(dropout=1.0), "dropout: 1.0 is not allowed"),
        (lambda: VisionTransformer(layers=0), "layers: 0 is not allowed"),
        (lambda: CNNClassifier(dataset="corpus"), "dataset: unknown name 'corpus'"),
    ],
)
def test_what_is_no_network_is_refused_with_the_reason(make, message):
    with pytest.raises(ValueError, match=message):
        make()
