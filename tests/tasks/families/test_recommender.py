import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.descent import trained

from tasks.base import SPLITS
from tasks.families.recommender import Recommender, cells


def test_the_splits_share_out_all_ratings():
    users, items = 12, 20
    found = []
    for split, share in zip(SPLITS, (7, 1, 1, 1), strict=True):
        count = users * items // 10 * share
        user, item = cells(jnp.arange(count), items, split)
        assert np.bincount(user).tolist() == [count // users] * users
        assert set(np.asarray(item).tolist()) == set(range(items))
        found += zip(np.asarray(user).tolist(), np.asarray(item).tolist(), strict=True)
    assert sorted(found) == [(user, item) for user in range(users) for item in range(items)]


def test_batches_hold_the_ratings_of_their_split():
    family = Recommender(seed=0)
    cfg = family.sample(jax.random.key(0))
    task = family.task(cfg, ())
    for split in SPLITS:
        count = family.users * family.items // 10 * (7 if split == "train" else 1)
        user, item = cells(jnp.arange(count), 30, split)
        allowed = set(zip(np.asarray(user).tolist(), np.asarray(item).tolist(), strict=True))
        for batch in (task.batch(jax.random.key(1), split), task.whole(split)):
            user, item = np.asarray(batch["user"]), np.asarray(batch["item"])
            assert set(zip(user.tolist(), item.tolist(), strict=True)) <= allowed
            np.testing.assert_array_equal(batch["rating"], cfg["ratings"][user, item])


def test_ratings_have_unit_variance_and_the_loss_is_of_factors_and_biases():
    family = Recommender(users=300, items=300, noise=0.5, rank=2, seed=0)
    ratings = np.asarray(family.sample(jax.random.key(0))["ratings"])
    np.testing.assert_allclose(ratings.var(), 1 + 0.5**2, rtol=0.1)
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    params = {
        "users": draw(300, 2),
        "items": draw(300, 2),
        "user_bias": draw(300),
        "item_bias": draw(300),
        "bias": draw(1)[0],
    }
    batch = {"user": np.array([3, 7]), "item": np.array([0, 299]), "rating": draw(2)}
    guess = [
        params["users"][u] @ params["items"][i]
        + params["user_bias"][u]
        + params["item_bias"][i]
        + params["bias"]
        for u, i in ((3, 0), (7, 299))
    ]
    task = family.task({}, ())
    loss = task.loss(*jax.tree.map(jnp.asarray, (params, jax.random.key(0), batch)))
    np.testing.assert_allclose(loss, np.mean((guess - batch["rating"]) ** 2), rtol=1e-5)


def test_ratings_are_learned_up_to_the_noise():
    first, last, _ = trained(Recommender(noise=0.1, seed=0), steps=1500)
    assert first > 0.7 and last < 0.1


def test_bad_fields_are_named():
    with pytest.raises(ValueError, match="items: 15 is not allowed; it must be a multiple of 10"):
        Recommender(items=15)
    with pytest.raises(ValueError, match="loss: unknown name 'mae'"):
        Recommender(loss="mae")
    with pytest.raises(ValueError, match="noise: -1"):
        Recommender(noise=-1)
