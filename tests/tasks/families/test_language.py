import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks.base import SPLITS
from tasks.families.cells import CELLS, recurrent_outputs
from tasks.families.language import LanguageModel
from tasks.families.tokens import SYMBOLS
from tasks.families.word_language import WordLanguageModel

KINDS = pytest.mark.parametrize("kind", [LanguageModel, WordLanguageModel])


def started(family, data=None):
    task = family.task(family.sample(jax.random.key(0)), data)
    return task, jax.jit(task.init)(jax.random.key(1))


@pytest.mark.parametrize(
    ("family", "count"),
    [
        (LanguageModel(), SYMBOLS * 8 + 8 * 24 + 24 * 24 + 24 + 24 * SYMBOLS + SYMBOLS),
        (LanguageModel(cell="lstm", hidden=5, vocabulary=100, trainable_start=True),
         100 * 8 + 4 * (8 * 5 + 5 * 5 + 5) + 5 * 100 + 100 + 2 * 5),
        (WordLanguageModel(), 200 * 8 + 8 * 24 + 24 * 24 + 24 + 24 * 200 + 200),
    ],
)  # fmt: skip
def test_weights_are_as_many_as_the_fields_say(family, count):
    _, params = started(family)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_whole_windows_are_spread_over_the_split():
    family = LanguageModel(dataset="corpus")
    text = family.load()
    task, _ = started(family, jax.tree.map(jnp.asarray, text))
    batch = task.whole("train")
    assert batch.shape == (64, family.sequence + 1)
    np.testing.assert_array_equal(batch[0], text["train"][0, : family.sequence + 1])
    assert len({tuple(row) for row in np.asarray(batch)}) == 64


@pytest.mark.parametrize("cell", CELLS)
def test_the_loss_is_the_mean_over_every_symbol_but_the_first(cell):
    family = LanguageModel(cell=cell, embed=3, hidden=4, sequence=4, batch_size=2)
    task, params = started(family)
    text = jax.random.randint(jax.random.key(2), (2, 5), 0, SYMBOLS)
    states = jax.jit(recurrent_outputs, static_argnums=2)(
        params, params["embedding"][text[:, :-1].T], cell
    )
    logits = np.float64(states) @ params["output"]["weight"] + np.float64(params["output"]["bias"])
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    picked = np.take_along_axis(shares, np.asarray(text[:, 1:].T)[..., None], -1)
    found = jax.jit(task.loss)(params, jax.random.key(0), text)
    np.testing.assert_allclose(found, -np.log(picked).mean(), rtol=1e-5)


@KINDS
def test_the_start_knows_nothing(kind):
    family = kind(initial_scale=(0.01, 0.01))
    task, params = started(family, jax.tree.map(jnp.asarray, family.load()))
    symbols = params["output"]["bias"].size
    loss = jax.jit(task.loss)(params, jax.random.key(0), task.whole("train"))
    assert float(loss) == pytest.approx(np.log(symbols), rel=0.01)


@KINDS
def test_tasks_differ_in_the_scale_of_their_start_within_its_bounds(kind):
    family = kind(initial_scale=(0.5, 2.0))
    cfgs = jax.vmap(family.sample)(jax.random.split(jax.random.key(0), 200))
    assert 0.5 <= cfgs.scale.min() < 0.55 and 1.8 < cfgs.scale.max() <= 2
    one, two = (
        jax.jit(family.task(jax.tree.map(lambda leaf, i=i: leaf[i], cfgs), None).init)(
            jax.random.key(0)
        )
        for i in (0, 1)
    )
    ratio = cfgs.scale[1] / cfgs.scale[0]
    for name in ("embedding", "input"):
        np.testing.assert_allclose(one[name] * ratio, two[name], rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Bigrams(LanguageModel):
    """Text in which 0 .. 3 follow each other in turn, but one symbol in ten is uniform."""

    def load(self):
        rng = np.random.default_rng(0)
        text = np.zeros((4, 1024), np.uint8)
        for i in range(1, 1024):
            uniform = rng.integers(0, 4, 4)
            text[:, i] = np.where(rng.random(4) < 0.1, uniform, (text[:, i - 1] + 1) % 4)
        return dict.fromkeys(SPLITS, text)


@pytest.mark.parametrize("cell", ["vanilla", "lstm"])
def test_what_follows_what_is_learned(cell):
    right = 0.9 + 0.1 / 4
    entropy = -right * np.log(right) - 3 * 0.025 * np.log(0.025)
    _, after, _ = trained(Bigrams(cell=cell, hidden=8, vocabulary=4), steps=300, rate=2e-2)
    assert entropy * 0.7 < after < entropy * 1.3 < 0.5 * np.log(4)


def test_families_are_named_by_their_cell():
    assert LanguageModel(cell="gru").architecture == "gru language model"
    assert WordLanguageModel(cell="lstm").architecture == "lstm language model"


@KINDS
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cell": "lsmt"}, "did you mean lstm"),
        ({"dataset": "corpsu"}, "did you mean corpus"),
        ({"dataset": "digits"}, "dataset: unknown name 'digits'"),
        ({"sequence": 2000}, "sequence: 2000 is not allowed; it must be below 1024"),
        ({"dataset": "reviews", "sequence": 64}, "sequence: 64 is not allowed; .* below 64"),
        ({"sequence": 0}, "sequence: 0"),
        ({"vocabulary": 1}, "vocabulary: 1 is not allowed; it must be at least 2"),
        ({"vocabulary": 10**6}, "vocabulary: 1000000 is not allowed"),
        ({"hidden": 0}, "hidden: 0"),
        ({"initial_scale": (2.0, 1.0)}, "initial_scale: "),
    ],
)
def test_bad_fields_are_named(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        kind(**fields)
