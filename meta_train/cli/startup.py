"""What commands begin with: a config by its name, and JAX made ready for it."""

import argparse
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from meta_train.host import cache_folder


class UsageError(Exception):
    """The command cannot do what it was asked; the message says why."""


def start_jax(devices: int = 1, cached: bool = True) -> None:
    """Imports JAX with `devices` parts of the host and a compile cache in the user's cache folder.

    JAX_COMPILATION_CACHE_DIR, where set, is left as it is. cached: without it, there is no other.
    """
    import jax

    if cached and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # A fresh state is drawn by dozens of small programs; together they take seconds.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.03)
    # Where JAX has started already, Parallel says how many devices there are.
    if devices > 1:
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices)


def find_config(name: str) -> Path:
    """A config by path; what is no path is sought among the shipped ones."""
    path = Path(name)
    if path.exists():
        return path
    here = Path(__file__).parents[1]
    for folder in (here.parent / "configs", here / "configs"):
        for candidate in (folder / path.name, folder / f"{path.name}.yaml"):
            if candidate.is_file():
                return candidate
        if folder.is_dir():
            shipped = ", ".join(sorted(found.stem for found in folder.glob("*.yaml")))
            raise UsageError(f"{name}: no such file, and no shipped config (those are: {shipped})")
    raise UsageError(f"{name}: no such file")


def load_config(args: argparse.Namespace, cached: bool = True) -> tuple[Any, str]:
    """The config of a command and the name it has in messages; JAX is ready for it."""
    from meta_train.config import loading

    path = find_config(args.config)
    config = loading.load(path, args.overrides)
    devices = config.parallel.devices if config.parallel.backend != "vmap" else 1
    if getattr(args, "distributed", False):
        # Where the cluster says how many processes there are, JAX_NUM_CPU_DEVICES counts.
        devices = devices // args.processes if args.processes else 1
    start_jax(devices, cached)
    return config, str(path)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that `load_config` reads."""
    parser.add_argument("config", metavar="CONFIG", help="YAML file, or the name of a shipped one")
    parser.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        help="changes to the config, such as tasks.1.weight=2 (docs/config.md)",
    )
