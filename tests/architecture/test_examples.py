"""The examples and the commands and code of the documents run as they are shown."""

import importlib.util
import math
import re
import shlex
from pathlib import Path

import pytest

import learned_opt
from meta_train.cli.command import make_parser
from tasks import FAMILIES

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LOOPS = {  # an example -> what it is run with: every rule in one, each way of updating in all
    "use_pretrained": ["adam", "relative_adam", *learned_opt.packaged()],
    "flax_nnx": ["relative_adam", None],
    "flax_train_state": ["relative_adam", None],
}


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "optimizer"), [(name, rule) for name, rules in LOOPS.items() for rule in rules]
)
def test_training_loops_run(name, optimizer, capsys):
    losses = example(name).main(optimizer, num_steps=30)
    assert all(math.isfinite(value) for value in losses)
    assert "new " in capsys.readouterr().out
    if optimizer == "relative_adam":
        assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


# The default at the length that the example has, and what is left of the first loss.
@pytest.mark.parametrize(
    ("name", "left"), [("use_pretrained", 0.05), ("flax_nnx", 0.05), ("flax_train_state", 0.2)]
)
@pytest.mark.slow
def test_training_loops_converge_with_the_default(name, left):
    losses = example(name).main()
    assert sum(losses[-5:]) < left * 5 * losses[0]


def test_the_optimizer_example_learns():
    losses = example("custom_optimizer").main(meta_steps=60)
    assert sum(losses[-10:]) < sum(losses[:10]) - 3.0


def test_the_estimator_example_estimates():
    estimated, exact = example("custom_estimator").main(draws=300)
    assert abs(estimated - exact) < 0.02 * abs(exact)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_are_short(path):
    assert path.read_text().count("\n") <= 100


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "name", ["README.md", "docs/use.md", "docs/optimizers.md", "docs/monitoring.md"]
)
def test_code_in_documents_runs_and_converges(name, capsys):
    names: dict = {}
    for block in blocks(ROOT / name, "python"):
        exec(block, names)
    final = learned_opt.eval_params(names["state"], names["params"])
    assert names["loss_fn"](final) < 0.1 * names["loss_fn"]({k: 0 * v for k, v in final.items()})
    if name in ("README.md", "docs/use.md"):
        first, last = (float(x) for x in re.findall(r"loss (\S+)", capsys.readouterr().out))
        assert last < 0.05 * first


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_commands_in_documents_parse(path):
    for line in "\n".join(blocks(path, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "learned-opt":
            make_parser().parse_args(words[1:])
        elif words and words[0].startswith("scripts/"):
            assert (ROOT / words[0]).is_file()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_in_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert "://" in target or (path.parent / target).exists(), target


def test_the_gallery_shows_every_family():
    """scripts/gallery.py writes it."""
    shown = re.findall(r"^## (\w+)$", (ROOT / "docs" / "tasks.md").read_text(), re.MULTILINE)
    assert shown == sorted(FAMILIES)
    assert all((ROOT / "docs" / "images" / "tasks" / f"{kind}.svg").is_file() for kind in shown)
