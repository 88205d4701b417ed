"""The examples and the commands and code of the documents run as they are shown."""

import importlib.util
import math
from pathlib import Path

import pytest

import learned_opt

ROOT = Path(__file__).parents[2]
LOOPS = ["use_pretrained", "flax_nnx", "flax_train_state"]


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("optimizer", ["adam", "relative_adam", *learned_opt.packaged()])
@pytest.mark.parametrize("name", LOOPS)
def test_training_loops_run(name, optimizer, capsys):
    losses = example(name).main(optimizer, num_steps=30)
    assert all(math.isfinite(value) for value in losses)
    assert "new " in capsys.readouterr().out
    if optimizer == "relative_adam":
        assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_are_short(path):
    assert path.read_text().count("\n") <= 100
