"""The folder that a command writes its results to."""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def results_folder(given: str | Path | None, name: str) -> Iterator[Path]:
    """A folder that can be written to; one made here goes again when nothing was put into it.

    given: taken as it is, with what lies there. name: without `given`, the folder is results/NAME,
    else NAME-2, NAME-3, ..., whichever is not there yet. Raises OSError before anything is run.
    """
    made = not (given and Path(given).exists())
    folder = Path(given) if given else _numbered(Path("results") / name)
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
