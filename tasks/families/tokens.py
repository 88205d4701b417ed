"""Texts as arrays of symbols: folded characters, the most frequent bytes, or whole words."""

import functools
import re
from collections import Counter
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer, PRNGKeyArray

from tasks.base import Batch, Data, MissingData, Split
from tasks.data import load
from tasks.info import check_dataset, info
from tasks.names import check_at_least
from tasks.sampling import indices

ALPHABET = "\n abcdefghijklmnopqrstuvwxyz.,'"  # symbols 1 ..; 0 stands for all other bytes
SYMBOLS = len(ALPHABET) + 1
WHOLE = 64  # windows that stand for a whole split
_WORD = re.compile(rb"[a-z0-9_'\x80-\xff]+|[^a-z0-9_'\x80-\xff\s\x00]")
_MOST_ROWS = 16_384  # of a split whose words are counted: their text is held as objects meanwhile


def check_vocabulary(vocabulary: int, most: int) -> None:
    """Raises ValueError unless 2 <= vocabulary <= most."""
    if not 2 <= vocabulary <= most:
        raise ValueError(
            f"vocabulary: {vocabulary} is not allowed; it must be at least 2 and at most {most}"
        )


def check_windows(dataset: str, sequence: int) -> None:
    """Raises ValueError unless the dataset is text and its blocks are longer than a sequence."""
    check_dataset(dataset, "text")
    check_at_least(1, sequence=sequence)
    width = info(dataset).shape[0]
    if sequence >= width:
        raise ValueError(
            f"sequence: {sequence} is not allowed; it must be below {width}, the length of a block "
            "of text"
        )


def fold(text: np.ndarray) -> np.ndarray:
    """Bytes as symbols 0 .. SYMBOLS - 1: without case, and all rare characters as symbol 0."""
    table = np.zeros(256, np.uint8)
    for symbol, character in enumerate(ALPHABET, start=1):
        table[ord(character)] = table[ord(character.upper())] = symbol
    return table[text]


@functools.cache
def folded(dataset: str) -> dict[str, np.ndarray]:
    """split -> folded blocks of text, uint8."""
    return {split: fold(part["text"]) for split, part in load(dataset).items()}


@functools.cache
def frequent_bytes(dataset: str, vocabulary: int) -> dict[str, np.ndarray]:
    """split -> blocks of text, uint8: the `vocabulary` - 1 commonest bytes as 1 .., the rest as 0.

    Frequencies are those of the train split; of equally frequent bytes the lower comes first.
    """
    parts = load(dataset)
    counts = np.bincount(parts["train"]["text"].reshape(-1), minlength=256)
    common = np.argsort(-counts, kind="stable")[: vocabulary - 1]
    table = np.zeros(256, np.uint8)
    table[common] = np.arange(1, len(common) + 1)
    return {split: table[part["text"]] for split, part in parts.items()}


class _Words(NamedTuple):
    """rank: of every word of a split in turn, 1 for the commonest, 0 where train lacks it.

    count: of words in each row of text.
    """

    rank: np.ndarray
    count: np.ndarray


def _split(text: np.ndarray) -> list[list[bytes]]:
    return [_WORD.findall(row.tobytes().lower()) for row in text[:_MOST_ROWS]]


@functools.cache
def _ranked(dataset: str) -> dict[str, _Words]:
    parts = load(dataset)
    counts = Counter(word for row in _split(parts["train"]["text"]) for word in row)
    order = sorted(counts, key=lambda word: (-counts[word], word))
    rank = {word: number for number, word in enumerate(order[: 2**16 - 1], start=1)}
    found = {}
    for split, part in parts.items():
        rows = _split(part["text"])
        ranks = np.array([rank.get(word, 0) for row in rows for word in row], np.uint16)
        found[split] = _Words(ranks, np.array([len(row) for row in rows], np.int32))
    return found


def _cut(rank: np.ndarray, vocabulary: int) -> np.ndarray:
    return np.where(rank < vocabulary, rank, 0).astype(np.uint16)


@functools.cache
def frequent_words(dataset: str, vocabulary: int) -> dict[str, np.ndarray]:
    """split -> (1, n) words of its rows in turn, uint16: the commonest as 1 .., the rest as 0.

    A word is a run of letters and digits, without case, or any other character but space. The
    `vocabulary` - 1 commonest of the train split have a number; of equally frequent ones the first
    in the alphabet does.
    """
    return {split: _cut(words.rank, vocabulary)[None] for split, words in _ranked(dataset).items()}


def check_length(data: dict[str, np.ndarray], dataset: str, length: int) -> None:
    """Raises MissingData unless every split has a window of `length` words."""
    for split, text in data.items():
        if text.shape[1] < length:
            raise MissingData(
                f"dataset {dataset!r}: its split {split} has {text.shape[1]} words, fewer than the "
                f"{length} of one sequence; choose a shorter sequence or a longer text"
            )


@functools.cache
def labelled_bytes(dataset: str, vocabulary: int) -> Data:
    """split -> text as in `frequent_bytes`, its length without final blanks, and label."""
    blank = np.frombuffer(b" \x00", np.uint8)
    text, found = frequent_bytes(dataset, vocabulary), {}
    for split, part in load(dataset).items():
        places = np.arange(1, part["text"].shape[1] + 1, dtype=np.int32)
        length = np.max(np.where(np.isin(part["text"], blank), 0, places), axis=1)
        found[split] = {
            "text": text[split],
            "length": np.maximum(length, 1),
            "label": part["label"],
        }
    return found


@functools.cache
def labelled_words(dataset: str, vocabulary: int) -> Data:
    """split -> text (n, words of the longest), its length, 0s beyond that, and label."""
    ranked, parts = _ranked(dataset), load(dataset)
    width, found = max(int(words.count.max()) for words in ranked.values()), {}
    for split, words in ranked.items():
        text = np.zeros((len(words.count), width), np.uint16)
        text[np.arange(width) < words.count[:, None]] = _cut(words.rank, vocabulary)
        found[split] = {
            "text": text,
            "length": np.maximum(words.count, 1),
            "label": parts[split]["label"][:_MOST_ROWS],
        }
    return found


def windows(
    text: Integer[Array, "rows width"], start: Int[Array, " count"], length: int
) -> Int[Array, "count length"]:
    """Stretches of text within a row, numbered through all rows: one gather."""
    per_row = text.shape[1] - length + 1
    row, offset = start // per_row, start % per_row
    return text[row[:, None], offset[:, None] + jnp.arange(length)].astype(jnp.int32)


def _count(text: Integer[Array, "rows width"], length: int) -> int:
    rows, width = text.shape
    return rows * (width - length + 1)


def window_batch(key: PRNGKeyArray, size: int, data: Data, split: Split, length: int) -> Batch:
    """`size` windows of the split, drawn with replacement: int32 (size, length)."""
    return windows(data[split], indices(key, size, _count(data[split], length)), length)


def window_whole(data: Data, split: Split, length: int) -> Batch:
    """WHOLE windows, evenly spread over the split; some more than once where it has fewer."""
    count = _count(data[split], length)
    return windows(data[split], jnp.arange(WHOLE) * max(count // WHOLE, 1) % count, length)
