"""Where weights lie: the packaged names, and what a path given by a user stands for."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from learned_opt.naming import nearest
from learned_opt.registry import LEARNED

SUFFIX = ".safetensors"


class WeightsError(ValueError):
    """Weights could not be found, read or written; the message says which file and why."""


def packaged() -> dict[str, Path]:
    """The weights that ship with the package: name -> file."""
    folder = Path(str(files("learned_opt"))) / "weights"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def locate(name_or_path: str | Path, other_names: Iterable[str] = ()) -> Path:
    """The weight file meant by a packaged name, a file, a run folder or a folder with one file.

    A packaged name wins over a path of the same spelling (write ./name for the path). A run folder
    gives its weights/best.safetensors, else weights/last.safetensors. other_names: what else the
    caller accepts, for the message. Raises WeightsError.
    """
    shipped = packaged()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if path.is_dir():
        return _inside(path)
    if path.is_file():
        return path
    if path.exists():
        raise WeightsError(f"{path}: not a regular file")
    if str(name_or_path) in LEARNED:
        raise WeightsError(
            f"{name_or_path}: no weights of this kind are packaged; give a file of them, which "
            f"learned-opt train makes, or learned-opt import where others published theirs "
            f"(packaged weights: {', '.join(shipped) or 'none'})"
        )
    names = [*shipped, *other_names]
    raise WeightsError(
        f"{name_or_path}: no such file or name{nearest(path.name, names)} "
        f"(packaged weights: {', '.join(shipped) or 'none'}"
        + (f"; other names: {', '.join(sorted(other_names))})" if other_names else ")")
    )


def _inside(folder: Path) -> Path:
    for candidate in ("best", "last"):
        for parent in (folder / "weights", folder):
            path = parent / f"{candidate}{SUFFIX}"
            if path.is_file():
                return path
    found = sorted(folder.glob(f"*{SUFFIX}"))
    if len(found) == 1:
        return found[0]
    problem = f"{len(found)} of them" if found else "no"
    names = f" ({', '.join(path.name for path in found)}): name one" if found else ""
    raise WeightsError(
        f"{folder}: neither weights/best{SUFFIX} nor weights/last{SUFFIX}, "
        f"and {problem} {SUFFIX} file in the folder itself{names}"
    )
