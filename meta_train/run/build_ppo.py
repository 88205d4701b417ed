"""From a config with a PPO block to its learner."""

from typing import Any

from meta_train.learners.ppo.environment import Environment
from meta_train.learners.ppo.learner import PPOLearner
from meta_train.learners.ppo.settings import Bucket
from meta_train.parallel import Parallel
from tasks.base import TaskMix


def build_ppo(config: Any, mix: TaskMix, parallel: Parallel) -> PPOLearner:
    """The learner of a run; mix: the config's task families.

    Raises ValueError that begins with the name of a key.
    """
    settings = config.estimator.build()
    families = {family.name: family for family in mix.families}
    buckets = settings.buckets or tuple(Bucket(name) for name in families)
    environments = tuple(
        Environment(bucket.name, families[bucket.task], bucket.pauses, bucket.steps)
        for bucket in buckets
    )
    updates = config.steps * settings.epochs * settings.minibatches
    return PPOLearner(
        optimizer=config.optimizer.build(),
        environments=environments,
        episodes=tuple(bucket.episodes or config.num_tasks for bucket in buckets),
        settings=settings,
        meta_optimizer=config.meta_optimizer.build().transformation(updates),
        ema=config.ema,
        parallel=parallel,
    )
