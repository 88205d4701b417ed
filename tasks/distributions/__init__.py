"""Where meta-training draws its tasks from: one file for each documented distribution."""

from tasks.distributions.base import TaskDistribution

DISTRIBUTIONS: dict[str, TaskDistribution] = {}
