"""What `import meta_train` offers."""

import subprocess
import sys

import pytest

import meta_train


def test_every_name_it_offers_is_there():
    names = [name for name in dir(meta_train) if name in meta_train._MODULES]
    assert "evaluate" in names and "PES" in names
    for name in names:
        assert getattr(meta_train, name).__name__ == name


def test_a_name_that_it_does_not_offer_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'meta_train' has no attribute 'evalute'"):
        _ = meta_train.evalute


def test_importing_it_starts_nothing():
    code = (
        "import sys, meta_train; print([m for m in ('jax', 'numpy', 'optax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
