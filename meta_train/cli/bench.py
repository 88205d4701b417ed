"""The command bench: what each kind of it prints."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from meta_train.cli.arguments import positive, usage
from meta_train.cli.startup import UsageError, load_config, start_jax


def bench(args: argparse.Namespace) -> int:
    """Compiles cold: without a compile cache, unless JAX_COMPILATION_CACHE_DIR asks for one."""
    if args.what != "meta" and (args.preset or args.sweep or args.seconds):
        raise UsageError("--preset, --sweep and --seconds belong to bench meta")
    if args.what in ("meta", "controller"):
        if args.preset:
            args.overrides.insert(0, args.preset)
        default = "quickstart" if args.what == "meta" else "lhopt"
        args.config = args.overrides.pop(0) if args.overrides else default
        config, source = load_config(args, cached=False)
    else:
        config, source = None, ""
        start_jax(cached=False)
    with usage():
        return KINDS[args.what](args, config, source)


def _meta(args: argparse.Namespace, config: Any, source: str) -> int:
    from meta_train.benchmarks import meta as benchmark

    if args.sweep:
        sweep = benchmark.sweep(config, source, args.config, args.overrides)
        rows = _shown(sweep, benchmark.line, args)
        if args.json:
            print(json.dumps({"sweep": rows}))
        return 0
    found = benchmark.meta(config, source, args.seconds or benchmark.SECONDS)
    _print_found(found, args, ",.4g")
    return 0


def _step(args: argparse.Namespace, config: Any, source: str) -> int:
    del config, source
    from meta_train.benchmarks import step as benchmark

    found = benchmark.step(args.overrides)
    print(json.dumps(found) if args.json else benchmark.lines(found))
    return 0


def _tasks(args: argparse.Namespace, config: Any, source: str) -> int:
    del config, source
    from meta_train.benchmarks import tasks as benchmark
    from meta_train.benchmarks.timing import peak_memory

    rows = _shown(benchmark.tasks(args.overrides), benchmark.line, args)
    memory = peak_memory()
    if args.json:
        print(json.dumps({"tasks": rows, "peak_memory_mib": memory}))
    else:
        print(f"peak memory: {memory:,.0f} MiB")
    return 0


def _controller(args: argparse.Namespace, config: Any, source: str) -> int:
    from meta_train.benchmarks import controller as benchmark

    rows = _shown(benchmark.controller(config, source), benchmark.line, args)
    if args.json:
        print(json.dumps({"buckets": rows[:-1], "iteration": rows[-1]}))
    return 0


def _evaluate(args: argparse.Namespace, config: Any, source: str) -> int:
    del config, source
    from meta_train.benchmarks import evaluation as benchmark

    if args.overrides:
        raise ValueError(f"{args.overrides[0]}: bench evaluate takes no names")
    found = benchmark.evaluation(lambda line: print(line, file=sys.stderr, flush=True))
    _print_found(found, args, ".1f")
    return 0


def _shown(
    rows: Iterable[dict[str, Any]], line: Callable[[dict[str, Any]], str], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """All rows; each is printed as it comes, unless JSON is asked for."""
    found = []
    for row in rows:
        found.append(row)
        if not args.json:
            print(line(row), flush=True)
    return found


def _print_found(found: dict[str, Any], args: argparse.Namespace, form: str) -> None:
    """Prints numbers by name. form: of those that are floats."""
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name}: {value:{form}}" if isinstance(value, float) else f"{name}: {value}")


KINDS = {
    "controller": _controller,
    "evaluate": _evaluate,
    "meta": _meta,
    "step": _step,
    "tasks": _tasks,
}


def add_to(add: Any) -> None:
    """Adds the command; `add(name, handler, help)` makes one."""
    command = add(
        "bench",
        bench,
        "measure speed: of meta-training, controllers, one update, tasks, evaluations",
    )
    command.add_argument("what", choices=sorted(KINDS), help=", ".join(sorted(KINDS)))
    command.add_argument(
        "overrides",
        metavar="CONFIG key=value | NAME | KIND",
        nargs="*",
        help="for meta (default: quickstart) and controller (default: lhopt); optimizers for step; "
        "for tasks (default: every kind)",
    )
    command.add_argument(
        "--preset", metavar="NAME", help="bench meta: name of a shipped config, such as peer"
    )
    command.add_argument(
        "--sweep",
        action="store_true",
        help="bench meta: measure over devices, tasks, parameters and length",
    )
    command.add_argument(
        "--seconds", type=positive, metavar="N", help="bench meta: seconds to measure (default: 10)"
    )
    command.add_argument("--json", action="store_true", help="print JSON")
