"""Where meta-training draws its tasks from: one file for each documented distribution."""

from tasks.distributions.base import TaskDistribution
from tasks.distributions.lhopt import LHOPT
from tasks.distributions.literature import CODE_DEFAULT, PAPER_LIKE
from tasks.distributions.taskset import TASKSET
from tasks.distributions.velo import VELO

DISTRIBUTIONS: dict[str, TaskDistribution] = {
    one.name: one for one in (CODE_DEFAULT, LHOPT, PAPER_LIKE, TASKSET, VELO)
}
