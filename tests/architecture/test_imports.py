"""Which code may know which: checked on the syntax trees, so imports inside functions count too."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("learned_opt", "tasks", "meta_train")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

STANDARD = set(sys.stdlib_module_names)
NUMERICS = {"jax", "numpy", "optax", "jaxtyping", "flax"}
ALLOWED = {  # package -> what it may import beside itself and the standard library
    "learned_opt": NUMERICS - {"flax"} | {"safetensors"},
    "tasks": NUMERICS | {"tensorflow_datasets", "sklearn"},
    "meta_train": NUMERICS
    | {"learned_opt", "tasks", "safetensors", "scipy"}
    | {"pydantic", "pydantic_core", "yaml", "wandb", "matplotlib", "pyarrow"},
}
INSIDE_FUNCTIONS = {"tensorflow_datasets", "sklearn", "wandb", "matplotlib"}
ONLY_IN = {
    "tensorflow_datasets": {"tasks/data.py", "tasks/builders.py", "tasks/elsewhere.py"},
    "sklearn": {"tasks/sources/scikit_learn.py"},
    "wandb": {"meta_train/run/wandb_log.py"},
}
EXECUTING = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}

# The folders of meta_train, what lies above first: a folder imports those on lower floors only.
FLOORS = (
    {"__main__"},
    {"cli"},
    {"reports", "benchmarks"},
    {"run"},
    {"config"},
    {"learners"},
    {"estimators", "evaluation"},
    {"inner"},
    {"published", "parallel", "progress", "host", "yaml_subset"},
)

LONGEST_FILE = 450
LONGEST_FUNCTION = 60


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in SOURCES}


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported; of `from package import name`, the module of that name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{parent}.{alias.name}"
                yield inner if inner in MODULES else parent


def at_import_time(tree: ast.Module) -> Iterator[str]:
    """Imports that run when the module is imported: all but those in functions."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield from (
            imported(ast.Module([node], []))
            if isinstance(node, ast.Import | ast.ImportFrom)
            else ()
        )
        waiting.extend(ast.iter_child_nodes(node))


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Every source file, parsed once."""
    return {name_of(path): ast.parse(path.read_text()) for path in SOURCES}


def test_a_module_imports_only_what_its_package_may(trees):
    wrong = []
    for name, tree in trees.items():
        package = name.partition("/")[0]
        allowed = ({package} | STANDARD | ALLOWED[package]) - EXECUTING
        for module in imported(tree):
            top = module.partition(".")[0]  # "" of a relative import
            if top not in allowed or name not in ONLY_IN.get(top, {name}):
                wrong.append(f"{name} imports {module}")
    assert not wrong


def test_heavy_packages_are_imported_where_they_are_used(trees):
    tops = {
        (name, module.partition(".")[0])
        for name, tree in trees.items()
        for module in at_import_time(tree)
    }
    assert not [(name, top) for name, top in tops if top in INSIDE_FUNCTIONS]


def test_nothing_is_evaluated_or_asserted_and_functions_stay_short(trees):
    wrong = []
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in {"eval", "exec", "compile", "__import__"}:
                    wrong.append(f"{name}:{node.lineno} calls {node.func.id}")
            elif isinstance(node, ast.Assert):
                wrong.append(f"{name}:{node.lineno} asserts")
            elif isinstance(node, ast.FunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONGEST_FUNCTION:
                    wrong.append(f"{name}: {node.name} has {lines} lines")
    assert not wrong


def test_files_stay_short():
    lines = {name_of(path): path.read_text().count("\n") for path in SOURCES}
    assert not {name: count for name, count in lines.items() if count > LONGEST_FILE}


def test_imports_within_a_package_make_no_circle(trees):
    edges = {
        module_of(ROOT / name): {
            module for module in at_import_time(tree) if module.partition(".")[0] in PACKAGES
        }
        for name, tree in trees.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for target in edges.get(module, set()) - {module}:
                visit(target, (*trail, module))
            done.add(module)

    for module in edges:
        visit(module, ())


def test_the_folders_of_meta_train_import_downwards_only(trees):
    floor = {folder: -number for number, folders in enumerate(FLOORS) for folder in folders}
    wrong = []
    for name, tree in trees.items():
        package, *inner = module_of(ROOT / name).split(".")
        if package != "meta_train" or not inner:
            continue
        assert inner[0] in floor, f"{name}: add it to FLOORS"
        for module in imported(tree):
            top, *target = module.split(".")
            if top != "meta_train" or target[:1] == inner[:1]:
                continue
            if not target or floor[target[0]] >= floor[inner[0]]:  # the face imports everything
                wrong.append(f"{name} imports {module}")
    assert not wrong


def test_importing_the_library_brings_little_beside_jax_and_optax():
    code = (
        "import sys, json, jax, optax; before = set(sys.modules); import learned_opt; "
        "print(json.dumps([sorted(sys.modules), sorted(sys.modules.keys() - before)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    modules, added = json.loads(done.stdout)
    heavy = {"tensorflow_datasets", "tensorflow", "wandb", "orbax", "matplotlib", "pydantic"}
    heavy |= {"flax", "tasks", "meta_train", "yaml", "pyarrow", "sklearn"}
    assert not heavy & set(modules)
    beside = {module.partition(".")[0] for module in added} - STANDARD
    assert beside <= {"learned_opt", "jaxtyping", "safetensors", "numpy"}


def test_importing_tasks_reads_no_data_and_no_networks():
    code = "import sys, json; import tasks; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not {"tensorflow", "tensorflow_datasets", "flax", "sklearn"} & set(
        json.loads(done.stdout)
    )


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_place_of_one_machine_or_an_index():
    home = "/(?:" + "|".join(("home", "Users", "root", "work", "workspace")) + ")/"
    index = "|".join((r"pypi[.]org", "python" + "hosted", "index" + "-url"))
    found = []
    for path in tracked():
        if path.suffix in {".safetensors", ".png", ".parquet", ".npz"}:
            continue
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(rf"(?<![\w.*])(?:{home})[\w.-]+|(?:{index})", text):
            found.append(f"{name_of(path)}: {match.group()}")
    assert not found


def test_weights_are_the_only_large_files():
    for path in tracked():
        limit = 2_000_000 if path.suffix == ".safetensors" else 300_000
        assert path.stat().st_size <= limit, f"{name_of(path)}: {path.stat().st_size} bytes"
