"""Every augmentation by the kind that a config names."""

from tasks.augment.base import Augmentation
from tasks.augment.batch import ReducedBatch
from tasks.augment.gradient import (
    AsynchronousDelay,
    GradientNoise,
    NormalisedGradient,
    RandomSubspace,
    SparseGradient,
)
from tasks.augment.objective import Bfloat16, LogObjective, LossScale, Reparametrise

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "asynchronous_delay": AsynchronousDelay,
    "bfloat16": Bfloat16,
    "gradient_noise": GradientNoise,
    "log_objective": LogObjective,
    "loss_scale": LossScale,
    "normalised_gradient": NormalisedGradient,
    "random_subspace": RandomSubspace,
    "reduced_batch": ReducedBatch,
    "reparametrise": Reparametrise,
    "sparse_gradient": SparseGradient,
}
