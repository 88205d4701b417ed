"""Short reviews made by a small grammar, labelled by what they say: the same bytes everywhere."""

from collections.abc import Iterator

import numpy as np

from tasks.builders import Arrays, Source
from tasks.integers import draws

COUNT = 6_000
LENGTH = 64  # characters, blanks at the end included
_SEED = 20_172

_THINGS = (
    "the plot",
    "this film",
    "the acting",
    "her voice",
    "the music",
    "that scene",
    "the ending",
    "his first book",
    "the camera work",
    "the story",
    "every song",
    "the last act",
)
_LINKS = ("is", "was", "seems", "felt", "remains")
_DEGREES = ("very", "rather", "truly", "really", "quite")
_DENIALS = ("not", "never", "hardly", "not at all", "by no means")
_JUDGEMENTS = (  # negative, positive
    ("dull", "weak", "awful", "clumsy", "boring", "silly", "flat", "poor", "tiresome", "bad"),
    ("good", "clever", "moving", "superb", "funny", "charming", "fresh", "bright", "fine", "warm"),
)


def _one(stream: Iterator[int], choices: tuple[str, ...]) -> str:
    return choices[next(stream) % len(choices)]


def _clause(stream: Iterator[int], positive: bool) -> str:
    """A judgement, one time in three by denying its opposite."""
    words = [_one(stream, _THINGS), _one(stream, _LINKS)]
    denied = next(stream) % 3 == 0
    if denied:
        words.append(_one(stream, _DENIALS))
    elif next(stream) % 2:
        words.append(_one(stream, _DEGREES))
    words.append(_one(stream, _JUDGEMENTS[positive != denied]))
    return " ".join(words)


def _review(stream: Iterator[int], positive: bool) -> str:
    """One clause, or two: after "and" they agree, after "but" the second has the last word."""
    shape = next(stream) % 3
    last = _clause(stream, positive)
    if shape == 0:
        return last + "."
    if shape == 1:
        return f"{_clause(stream, positive)} and {last}."
    return f"{_clause(stream, not positive)} but {last}."


def generate() -> Arrays:
    """text: uint8 (COUNT, LENGTH), ASCII. label: 1 for a positive review. No two are equal."""
    stream = draws(_SEED)
    reviews: dict[str, int] = {}
    while len(reviews) < COUNT:
        label = next(stream) % 2
        text = _review(stream, bool(label))
        if len(text) <= LENGTH:
            reviews[text] = label
    text = "".join(review.ljust(LENGTH) for review in reviews).encode("ascii")
    return {
        "text": np.frombuffer(text, np.uint8).reshape(COUNT, LENGTH),
        "label": np.array(list(reviews.values()), np.int64),
    }


SOURCE = Source(
    "reviews",
    "1.0.0",
    "6,000 generated one-sentence reviews, negative (0) or positive (1), as bytes.",
    (("text", ((LENGTH,), "uint8")),),
    generate,
    classes=2,
)
