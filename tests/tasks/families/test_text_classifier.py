import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks.families.text_classifier import POOLINGS, TextClassifier, pooled


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_reads_no_further_than_the_text(pooling):
    outputs = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)
    length = np.array([1, 3, 5], np.int32)
    rows = [outputs[:n, i] for i, n in enumerate(length)]
    expected = {
        "last": [row[-1] for row in rows],
        "average": [row.mean(0) for row in rows],
        "max": [row.max(0) for row in rows],
    }[pooling]
    found = pooled(jnp.array(outputs), jnp.array(length), pooling)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("symbols", ["bytes", "words"])
def test_symbols_beyond_the_length_do_not_count(symbols):
    family = TextClassifier(symbols=symbols, cell="lstm", pooling="average")
    task = family.task(family.sample(jax.random.key(0)), jax.tree.map(jnp.asarray, family.load()))
    params, batch = task.init(jax.random.key(1)), task.batch(jax.random.key(2), "train")
    loss = jax.jit(task.loss)
    beyond = jnp.arange(batch["text"].shape[1]) >= batch["length"][:, None]
    assert beyond.any()
    base = loss(params, jax.random.key(0), batch)
    assert loss(params, jax.random.key(0), {**batch, "text": batch["text"] + beyond}) == base
    changed = {**batch, "text": batch["text"].at[:, 0].add(1)}
    assert loss(params, jax.random.key(0), changed) != base


def test_reviews_are_understood_from_chance():
    before, after, _ = trained(TextClassifier(), steps=400, rate=2e-2)
    assert 0.5 < before < 1.5
    assert after < 0.3 * np.log(2)


def test_tasks_differ_in_label_noise_and_start():
    family = TextClassifier(label_noise=(0.5, 0.5), initial_scale=(0.5, 2.0))
    data = jax.tree.map(jnp.asarray, family.load())
    clean = TextClassifier()
    one = family.task(family.sample(jax.random.key(0)), data).batch(jax.random.key(1), "train")
    other = clean.task(clean.sample(jax.random.key(0)), data).batch(jax.random.key(1), "train")
    np.testing.assert_array_equal(one["text"], other["text"])
    assert 0 < np.mean(one["label"] != other["label"]) < 0.6
    scales = jax.vmap(family.sample)(jax.random.split(jax.random.key(0), 50)).scale
    assert 0.5 <= scales.min() < 0.7 and 1.5 < scales.max() <= 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "review"}, "did you mean reviews"),
        ({"dataset": "corpus"}, "dataset: corpus is not allowed; a classifier needs two classes"),
        ({"dataset": "digits"}, "dataset: unknown name 'digits'"),
        ({"symbols": "word"}, "did you mean words"),
        ({"symbols": "bytes", "vocabulary": 300}, "vocabulary: 300 is not allowed; .* most 256"),
        ({"pooling": "mean"}, "pooling: unknown name 'mean'"),
        ({"cell": "rnn"}, "cell: unknown name 'rnn'"),
        ({"embed": 0}, "embed: 0"),
        ({"subset": (0.0, 1.0)}, "subset: "),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        TextClassifier(**fields)
