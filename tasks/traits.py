"""The coarse traits of a task: what says how far one problem is from another."""

from typing import NamedTuple

from tasks.base import TaskFamily


class Traits(NamedTuple):
    """What is trained, on which data, for which loss."""

    architecture: str
    dataset: str
    loss: str


def traits(family: TaskFamily) -> Traits:
    """A family's attributes of these names, where it has them.

    Else the architecture is the class's name, the dataset "generated" and the loss the
    architecture's name: a function to minimise is a loss of its own. A family that wraps another
    as its `family` is trained on the same problem.
    """
    wrapped = getattr(family, "family", None)
    if isinstance(wrapped, TaskFamily):
        return traits(wrapped)
    architecture = getattr(family, "architecture", type(family).__name__)
    return Traits(
        architecture,
        getattr(family, "dataset", "generated"),
        getattr(family, "loss", architecture),
    )


def differences(one: TaskFamily, other: TaskFamily) -> int:
    """In how many of the traits two families differ: 0 to 3."""
    return sum(a != b for a, b in zip(traits(one), traits(other), strict=True))
