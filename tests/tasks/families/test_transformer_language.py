import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks.families.transformer_language import TransformerLanguageModel


def started(family, data=None):
    task = family.task(family.sample(jax.random.key(0)), data)
    return task, jax.jit(task.init)(jax.random.key(1))


def test_no_position_depends_on_what_follows_it():
    """The derivative of every position's logits by every position's embedding."""
    family = TransformerLanguageModel(layers=2, sequence=6, hidden=8)
    _, params = started(family)

    @jax.jit
    def jacobian(positions):
        def of(positions):
            return family.logits(
                {**params, "position": positions}, jax.random.key(0), jnp.zeros((1, 6), int)
            )[0]

        return jax.jacobian(of)(positions)

    size = np.abs(jacobian(params["position"])).sum((1, 3))  # position of output, of input
    assert np.all(size[np.triu_indices(6, 1)] == 0)
    assert np.all(size[np.tril_indices(6)] > 0)


@pytest.mark.parametrize("vocabulary", [0, 100])
def test_the_start_knows_nothing(vocabulary):
    family = TransformerLanguageModel(vocabulary=vocabulary, initial_scale=(0.01, 0.01))
    task, params = started(family, jax.tree.map(jnp.asarray, family.load()))
    loss = jax.jit(task.loss)(params, jax.random.key(0), task.whole("train"))
    assert float(loss) == pytest.approx(np.log(vocabulary or 32), rel=0.01)


@pytest.mark.slow
def test_text_is_learned_below_the_entropy_of_its_symbols():
    family = TransformerLanguageModel(dataset="corpus")
    shares = np.bincount(family.load()["train"].reshape(-1)) / family.load()["train"].size
    entropy = -np.sum(shares[shares > 0] * np.log(shares[shares > 0]))
    before, after, _ = trained(family, steps=400, rate=1e-2)
    assert after < 0.9 * entropy < before


def test_weights_are_as_many_as_the_fields_say():
    _, params = started(TransformerLanguageModel(layers=2, hidden=8, mlp=12, sequence=5))
    block = 4 * (8 * 8 + 8) + 2 * 8 * 12 + 12 + 8 + 4 * 8
    count = 32 * 8 + 5 * 8 + 2 * block + 2 * 8 + 8 * 32 + 32
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_dropout_draws_from_the_key():
    family = TransformerLanguageModel(dropout=0.5)
    task, params = started(family, jax.tree.map(jnp.asarray, family.load()))
    batch, loss = task.whole("train"), jax.jit(task.loss)
    one, again, other = (float(loss(params, jax.random.key(i), batch)) for i in (0, 0, 1))
    assert one == again != other


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "corpsu"}, "did you mean corpus"),
        ({"sequence": 1024}, "sequence: 1024 is not allowed; it must be below 1024"),
        ({"heads": 3}, "heads: 3 is not allowed; it must divide hidden 16, as 2 and 4 do"),
        ({"layers": 0}, "layers: 0"),
        ({"mlp": 0}, "mlp: 0"),
        ({"dropout": 1.0}, "dropout: 1.0"),
        ({"vocabulary": 257}, "vocabulary: 257 is not allowed"),
        ({"initial_scale": (0.0, 1.0)}, "initial_scale: "),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        TransformerLanguageModel(**fields)
