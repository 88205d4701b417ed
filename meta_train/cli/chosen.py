"""What the command `evaluate` is given: optimizers by name or path, a folder for results."""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from learned_opt import io
from learned_opt.registry import HAND_DESIGNED
from meta_train.evaluation.entries import Entry, find_rule, names_rule, setting, standard_baselines


def short_name(name: str) -> str:
    """A name as it is; of a run the name of its folder, of another path its last part."""
    path = Path(name)
    if name in HAND_DESIGNED or name in io.packaged() or not path.exists():
        return name
    path = path.resolve()
    if path.is_dir():
        return path.name
    run = path.parent.parent
    of_run = path.parent.name == "weights" and (run / "config.yaml").is_file()
    return run.name if of_run and path.stem == "best" else path.stem


def chosen_entries(names: Sequence[str], baselines: Sequence[str] | None) -> list[Entry]:
    """The optimizers of a table: `names`, then the baselines that are not among them.

    names: packaged or hand-designed, weight files, runs. baselines: as standard_baselines takes
    them. Raises ValueError, of which WeightsError is one.
    """
    names = list(dict.fromkeys(names))
    labels = [short_name(name) for name in names]
    if len(set(labels)) < len(names):
        labels = names
    beside = standard_baselines(baselines)
    taken = {*HAND_DESIGNED, *(entry.name for entry in standard_baselines())}
    entries = [_entry(*pair, taken) for pair in zip(names, labels, strict=True)]
    return entries + [b for b in beside if b.name not in {entry.name for entry in entries}]


def _entry(name: str, label: str, taken: set[str]) -> Entry:
    if names_rule(name) and not Path(name).exists():
        rule = find_rule(name)
        return Entry(name, rule, setting(rule).theta)
    rule, theta, _ = io.read(io.locate(name, other_names=HAND_DESIGNED))
    return Entry(f"{label} (file)" if label in taken else label, rule, theta)


@contextmanager
def results_folder(given: Path | None, name: str) -> Iterator[Path]:
    """A folder that can be written to; one made here goes again when nothing was put into it.

    given: taken as it is, with what lies there. name: without `given`, the folder is results/NAME,
    else NAME-2, NAME-3, ..., whichever is not there yet. Raises OSError before anything is run.
    """
    made = given is None or not given.exists()
    folder = _numbered(Path("results") / name) if given is None else given
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    try:
        yield folder
    except BaseException:
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _numbered(folder: Path) -> Path:
    """Makes the folder, or the first numbered one that no other process has made."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path, numbers = folder, itertools.count(2)
    while True:
        try:
            path.mkdir()
            return path
        except FileExistsError:
            path = folder.with_name(f"{folder.name}-{next(numbers)}")
