"""Regression on raw measurements, whose units differ by orders of magnitude."""

from dataclasses import dataclass

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import Batch, Cfg, Data, Params, Task
from tasks.families.generated import by_split, examples_task
from tasks.families.layers import ACTIVATIONS, mlp_apply, mlp_init
from tasks.families.regression import REGRESSION_LOSSES
from tasks.names import check_at_least, check_name
from tasks.sampling import task_key


@dataclass(frozen=True)
class BadlyScaledRegression:
    """A number from `features` inputs that nobody brought to one scale.

    Inputs are normal; their standard deviations are log-uniform over `decades` powers of ten
    around 1. The target is a random tanh network of eight units on the inputs as they would be
    with standard deviation 1, itself of variance about 1, plus N(0, noise^2). examples: of the
    train split. widths, activation: of the trained network. loss: a key of REGRESSION_LOSSES.
    seed: of all that; None draws others for every task.
    """

    features: int = 12
    decades: float = 4.0
    noise: float = 0.1
    examples: int = 512
    widths: tuple[int, ...] = (16,)
    activation: str = "tanh"
    loss: str = "mse"
    batch_size: int = 32
    seed: int | None = None
    name: str = "badly_scaled_regression"

    def __post_init__(self):
        check_name("activation", self.activation, ACTIVATIONS)
        check_name("loss", self.loss, REGRESSION_LOSSES)
        check_at_least(
            1,
            features=self.features,
            examples=self.examples,
            widths=min(self.widths, default=1),
            batch_size=self.batch_size,
        )
        check_at_least(0, decades=self.decades, noise=self.noise)

    def load(self) -> Data:
        return ()

    def sample(self, key: PRNGKeyArray) -> Cfg:
        unit_key, teacher_key, key = jax.random.split(task_key(key, self.seed), 3)
        powers = jax.random.uniform(unit_key, (self.features,), minval=-0.5, maxval=0.5)
        units = 10.0 ** (self.decades * powers)
        teacher = mlp_init(teacher_key, (self.features, 8, 1), scale=1.5)

        def draw(key: PRNGKeyArray, count: int) -> Data:
            input_key, noise_key = jax.random.split(key)
            x = jax.random.normal(input_key, (count, self.features))
            noise = self.noise * jax.random.normal(noise_key, (count,))
            return {"x": x * units, "y": mlp_apply(teacher, x, "tanh")[:, 0] + noise}

        return by_split(key, self.examples, draw)

    def task(self, cfg: Cfg, data: Data) -> Task:
        del data
        sizes = (self.features, *self.widths, 1)

        def value(params: Params, batch: Batch) -> Float[Array, ""]:
            guess = mlp_apply(params, batch["x"], self.activation)[:, 0]
            return REGRESSION_LOSSES[self.loss](guess, batch["y"])

        return examples_task(lambda key: mlp_init(key, sizes), value, cfg, self.batch_size, 0.0)
