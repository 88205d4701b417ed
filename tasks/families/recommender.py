"""Ratings of items by users, guessed from an embedding and a bias of each."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Split, Task
from tasks.families.regression import REGRESSION_LOSSES
from tasks.names import check_at_least, check_name
from tasks.sampling import indices, task_key

WHOLE = 1024  # ratings that stand for a whole split
_TENTHS = {"train": (0, 7), "inner_valid": (7, 8), "outer_valid": (8, 9), "test": (9, 10)}


def cells(
    number: Int[Array, " n"], items: int, split: Split
) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    """User and item of the ratings of a split, which are numbered user by user.

    Of every ten items in a row a split has as many as it has tenths (7, 1, 1, 1), others for the
    next user, so that all users and all items are in every split.
    """
    low, high = _TENTHS[split]
    share = high - low
    per_user = items // 10 * share
    user, rest = number // per_user, number % per_user
    return user, rest // share * 10 + (low + rest % share + user) % 10


@dataclass(frozen=True)
class Recommender:
    """Ratings by the product of a user's and an item's embedding, plus a bias of each and of all.

    The true ratings are made in the same way from normal numbers and have variance 1 but for
    `noise`, the standard deviation of what each rating is off by. A minibatch touches few rows of
    the embeddings. items: a multiple of 10. true_rank, rank: widths of the true and the trained
    embeddings, which start N(0, 0.01). loss: a key of REGRESSION_LOSSES. seed: of the ratings;
    None draws others for every task.
    """

    users: int = 40
    items: int = 30
    true_rank: int = 3
    rank: int = 4
    noise: float = 0.3
    loss: str = "mse"
    batch_size: int = 32
    seed: int | None = None
    name: str = "recommender"

    def __post_init__(self):
        check_name("loss", self.loss, REGRESSION_LOSSES)
        check_at_least(
            1,
            users=self.users,
            true_rank=self.true_rank,
            rank=self.rank,
            batch_size=self.batch_size,
        )
        check_at_least(0, noise=self.noise)
        if self.items < 10 or self.items % 10:
            raise ValueError(f"items: {self.items} is not allowed; it must be a multiple of 10")

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        keys = jax.random.split(task_key(key, self.seed), 5)
        left = jax.random.normal(keys[0], (self.users, self.true_rank))
        right = jax.random.normal(keys[1], (self.true_rank, self.items))
        product = left @ right / math.sqrt(self.true_rank)
        users = jax.random.normal(keys[2], (self.users, 1))
        items = jax.random.normal(keys[3], (1, self.items))
        noise = self.noise * jax.random.normal(keys[4], (self.users, self.items))
        return {"ratings": (product + users + items) / math.sqrt(3) + noise}

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data

        def rated(number: Int[Array, " n"], split: Split) -> Batch:
            user, item = cells(number, self.items, split)
            return {"user": user, "item": item, "rating": cfg["ratings"][user, item]}

        def count(split: Split) -> int:
            low, high = _TENTHS[split]
            return self.users * self.items // 10 * (high - low)

        def batch(key: PRNGKeyArray, split: Split) -> Batch:
            return rated(indices(key, self.batch_size, count(split)), split)

        def whole(split: Split) -> Batch:
            size = min(WHOLE, count(split))
            return rated(jnp.arange(size) * (count(split) // size), split)

        return Task(self._init, batch, whole, self._loss, lower_bound=0.0)

    def _init(self, key: PRNGKeyArray) -> Params:
        user_key, item_key = jax.random.split(key)
        return {
            "users": 0.1 * jax.random.normal(user_key, (self.users, self.rank)),
            "items": 0.1 * jax.random.normal(item_key, (self.items, self.rank)),
            "user_bias": jnp.zeros(self.users),
            "item_bias": jnp.zeros(self.items),
            "bias": jnp.zeros(()),
        }

    def _loss(self, params: Params, key: PRNGKeyArray, batch: Batch) -> Float[Array, ""]:
        del key
        user, item = batch["user"], batch["item"]
        product = jnp.sum(params["users"][user] * params["items"][item], -1)
        biases = params["user_bias"][user] + params["item_bias"][item] + params["bias"]
        return REGRESSION_LOSSES[self.loss](product + biases, batch["rating"])
