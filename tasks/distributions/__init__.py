"""Where meta-training draws its tasks from: one file for each documented distribution."""

from tasks.distributions.base import TaskDistribution
from tasks.distributions.literature import CODE_DEFAULT, PAPER_LIKE

DISTRIBUTIONS: dict[str, TaskDistribution] = {one.name: one for one in (CODE_DEFAULT, PAPER_LIKE)}
