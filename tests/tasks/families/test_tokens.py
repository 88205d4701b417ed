import jax.numpy as jnp
import numpy as np
import pytest

from tasks import MissingData
from tasks.base import SPLITS
from tasks.families import tokens
from tasks.families.tokens import (
    ALPHABET,
    SYMBOLS,
    check_length,
    fold,
    folded,
    frequent_bytes,
    frequent_words,
    labelled_bytes,
    labelled_words,
    window_whole,
    windows,
)


def rows(*texts, width=24):
    return np.stack([np.frombuffer(text.ljust(width), np.uint8) for text in texts])


@pytest.fixture
def stored(monkeypatch):
    """A dataset "stored" of a few rows: the train split, and one for all others."""
    train = rows(b"the cat, the dog", b"The end of the cat.")
    other = rows(b"a dog and the cat")
    parts = {split: {"text": other, "label": np.array([1])} for split in SPLITS}
    parts["train"] = {"text": train, "label": np.array([0, 1])}
    monkeypatch.setattr(tokens, "load", lambda dataset: parts)
    caches = (folded, frequent_bytes, frequent_words, labelled_bytes, labelled_words)
    for cache in (*caches, tokens._ranked):
        cache.cache_clear()
    yield parts
    for cache in (*caches, tokens._ranked):
        cache.cache_clear()


def test_fold_keeps_letters_without_case():
    assert SYMBOLS == 32
    symbols = fold(np.frombuffer(b"aA zZ.\n#\xff", np.uint8))
    text = "".join(("#" + ALPHABET)[symbol] for symbol in symbols)
    assert text == "aa zz.\n##"


def test_the_commonest_bytes_of_the_train_split_have_symbols(stored):
    found = frequent_bytes("stored", 4)
    symbols = {ord(" "): 1, ord("e"): 2, ord("t"): 3}
    for split in SPLITS:
        expected = np.vectorize(lambda byte: symbols.get(byte, 0))(stored[split]["text"])
        assert found[split].dtype == np.uint8
        np.testing.assert_array_equal(found[split], expected)


def test_256_symbols_tell_all_bytes_apart(stored):
    every = np.arange(256, dtype=np.uint8)[None]
    stored["test"] = {"text": every}
    assert len(set(frequent_bytes("stored", 256)["test"][0].tolist())) == 256


def test_the_commonest_words_of_the_train_split_have_symbols(stored):
    # the 4, cat 2, then "," "." dog end of: 1 each and in the order of their bytes
    found = frequent_words("stored", 6)
    np.testing.assert_array_equal(found["train"], [[1, 2, 3, 1, 5, 1, 0, 0, 1, 2, 4]])
    np.testing.assert_array_equal(found["test"], [[0, 5, 0, 1, 2]])
    assert found["train"].dtype == np.uint16
    np.testing.assert_array_equal(frequent_words("stored", 3)["test"], [[0, 0, 0, 1, 2]])


def test_arrays_are_the_same_objects_at_every_call(stored):
    for load in (
        folded,
        lambda name: frequent_bytes(name, 9),
        lambda name: frequent_words(name, 9),
    ):
        assert load("stored") is load("stored")


def test_labelled_text_knows_its_length_without_blanks(stored):
    by_bytes, by_words = labelled_bytes("stored", 200), labelled_words("stored", 3)
    np.testing.assert_array_equal(by_bytes["train"]["length"], [16, 19])
    np.testing.assert_array_equal(by_bytes["train"]["text"], frequent_bytes("stored", 200)["train"])
    np.testing.assert_array_equal(by_words["train"]["length"], [5, 6])
    np.testing.assert_array_equal(
        by_words["train"]["text"], [[1, 2, 0, 1, 0, 0], [1, 0, 0, 1, 2, 0]]
    )
    np.testing.assert_array_equal(by_words["test"]["text"], [[0, 0, 0, 1, 2, 0]])
    np.testing.assert_array_equal(by_words["train"]["label"], [0, 1])


def test_too_few_words_are_refused_with_the_reason(stored):
    data = frequent_words("stored", 6)
    check_length(data, "stored", 5)
    with pytest.raises(MissingData, match="split inner_valid has 5 words, fewer than the 6 of one"):
        check_length(data, "stored", 6)


def test_windows_stay_within_their_row():
    text = jnp.arange(30, dtype=jnp.uint8).reshape(3, 10)
    per_row = 10 - 4 + 1
    found = windows(text, jnp.arange(3 * per_row), 4)
    starts = [10 * row + offset for row in range(3) for offset in range(per_row)]
    np.testing.assert_array_equal(found, [[s, s + 1, s + 2, s + 3] for s in starts])


def test_whole_windows_are_spread_over_the_split():
    text = {"train": jnp.arange(640).reshape(1, 640), "test": jnp.arange(12).reshape(1, 12)}
    np.testing.assert_array_equal(window_whole(text, "train", 2)[:, 0], np.arange(64) * 9)
    found = window_whole(text, "test", 3)
    assert found.shape == (64, 3) and set(np.asarray(found[:, 0]).tolist()) == set(range(10))
