"""The command `learned-opt`. JAX is imported by the commands that need it, never by --help."""

import argparse
import json
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meta_train.cli import (
    evaluate as evaluation_commands,
    import_weights as published,
    robustness as robustness_command,
    schedule as schedule_command,
)
from meta_train.cli.arguments import positive, step, usage
from meta_train.cli.startup import UsageError, find_config, load_config, start_jax
from meta_train.interruption import Interrupted

FAILED, BAD_USAGE, MISSING_DATA, INTERRUPTED = 1, 2, 3, 130


def train(args: argparse.Namespace) -> int:
    from meta_train.interruption import interruptible

    with interruptible() as stopped:
        config, source = load_config(args)
        from meta_train.run import job, processes as distributed

        if args.distributed:
            distributed.start(args.coordinator, args.processes, args.process_id)
        folder = Path(args.out) if args.out else Path("runs") / Path(source).stem
        outcome = job.train(
            config, folder, sys.stdout, stopped, args.overrides, args.resume, source
        )
        first = distributed.is_first()
    if args.distributed:
        distributed.stop()
    if outcome.status == "finished":
        lines = [f"finished at meta-step {outcome.step}: {folder}"]
    else:
        again = ["train", args.config, *args.overrides, "--out", str(folder), "--resume"]
        lines = [f"interrupted at meta-step {outcome.step}, saved; go on with:"]
        lines += [f"  learned-opt {shlex.join(again)}"]
    if first:
        print("\n".join(lines))
    return 0 if outcome.status == "finished" else INTERRUPTED


def _add_processes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes; the cluster says which",
    )
    command.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 is reached")
    command.add_argument("--processes", type=positive, metavar="N", help="how many there are")
    command.add_argument("--process-id", type=step, metavar="I", help="of this one, from 0")


def _check_processes(args: argparse.Namespace) -> None:
    """Flags that name the processes stand for --distributed too, but only all three."""
    given = (args.coordinator, args.processes, args.process_id)
    if given == (None, None, None):
        return
    if None in given:
        args.command.error("--coordinator, --processes and --process-id go together")
    if args.process_id >= args.processes:
        args.command.error(
            f"--process-id: {args.process_id} must be below --processes, {args.processes}"
        )
    args.distributed = True


def export(args: argparse.Namespace) -> int:
    start_jax()
    from meta_train.run.export import export_run

    with usage():
        card = export_run(Path(args.run), Path(args.file), args.step, args.results)
    print(f"{args.file}: {card['kind']} after {card.get('meta_steps')} meta-steps")
    return 0


def inspect(args: argparse.Namespace) -> int:
    start_jax()
    from learned_opt import io

    path = io.locate(args.file)
    _, theta, card = io.read(path)
    leaves = io.named_leaves(theta)
    shapes = {name: list(leaf.shape) for name, leaf in leaves.items()}
    weights = sum(leaf.size for leaf in leaves.values())
    about = {"file": str(path), "weights": weights, "card": card, "shapes": shapes}
    if args.json:
        print(json.dumps(about, indent=1))
        return 0
    from meta_train.config.yaml_subset import dump

    print(dump(about), end="")
    return 0


def data_prepare(args: argparse.Namespace) -> int:
    from tasks import data

    with usage():
        if args.files and args.name == "all":
            raise UsageError("--from takes the files of one dataset, not of all")
        for name in sorted(data.SOURCES) if args.name == "all" else [args.name]:
            files = args.files
            if not files and name in data.FILES and not data.present(name):
                try:
                    files = data.download(name, say=lambda line: print(line, flush=True))
                except KeyboardInterrupt:
                    print("interrupted; the same command goes on from there", file=sys.stderr)
                    return INTERRUPTED
            print(f"{name}: {data.prepare(name, files=files)}")
    return 0


def config_check(args: argparse.Namespace) -> int:
    config, source = load_config(args)
    from meta_train.run.build import build_curriculum, build_score, build_start

    build_curriculum(config, source)
    build_score(config, source)
    build_start(config, source)
    print(f"{source}: ok")
    return 0


def config_show(args: argparse.Namespace) -> int:
    from meta_train.config import model as configs

    print(configs.dump(configs.load(find_config(args.config), args.overrides)), end="")
    return 0


def config_reference(args: argparse.Namespace) -> int:
    del args
    from meta_train.config.reference import reference

    print(reference(), end="")
    return 0


def show_list(args: argparse.Namespace) -> int:
    if args.markdown:
        if args.what != "optimizers":
            raise UsageError(f"--markdown belongs to list optimizers, not to list {args.what}")
        from meta_train.cli.optimizer_table import reference

        print(reference(), end="")
        return 0
    from meta_train.cli.catalogue import LISTS

    rows = LISTS[args.what]()
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            print(f"{row['name']:<{width}}  {row['about']}".rstrip())
    return 0


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
    from meta_train.cli import bench as bench_commands

    with usage():
        return getattr(bench_commands, args.what)(args, config, source)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="YAML file, or the name of a shipped one")
    parser.add_argument(
        "overrides", metavar="key=value", nargs="*", help="such as tasks.1.weight=2; docs/config.md"
    )


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="learned-opt",
        description="Meta-train optimizers, look at them, measure them.",
        epilog="exit codes: 0 done, 1 failed, 2 bad usage or config, 3 missing data, "
        "130 interrupted, saved",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Any, help: str, within: Any = commands) -> argparse.ArgumentParser:
        command = within.add_parser(name, help=help, description=help, allow_abbrev=False)
        command.set_defaults(handler=run, command=command)
        return command

    command = add("train", train, "meta-train an optimizer from a config")
    _add_config(command)
    command.add_argument("--out", metavar="DIR", help="run folder (default: runs/NAME-OF-CONFIG)")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    _add_processes(command)

    evaluation_commands.add_to(add)
    robustness_command.add_to(add)
    published.add_to(add, commands)
    schedule_command.add_to(add, commands)
    command = add("export", export, "write the weights of a run as one file")
    command.add_argument("run", metavar="RUN", help="run folder")
    command.add_argument("file", metavar="FILE", help="file to write, .safetensors")
    command.add_argument(
        "--step", type=step, metavar="N", help="of this checkpoint (default: the best weights)"
    )
    command.add_argument(
        "--results", type=Path, metavar="DIR", help="an evaluation whose scores the card shall hold"
    )

    command = add("inspect", inspect, "print the card and the shapes of a weight file")
    command.add_argument("file", metavar="FILE", help="weight file, run folder or packaged name")
    command.add_argument("--json", action="store_true", help="for scripts")
    _add_more(add, commands)
    return parser


def _add_more(add: Any, commands: Any) -> None:
    data = commands.add_parser("data", help="datasets")
    data = data.add_subparsers(metavar="VERB", required=True)
    command = add("prepare", data_prepare, "write a dataset to disk", within=data)
    command.add_argument("name", metavar="NAME|all", help="all: what needs no files and no network")
    command.add_argument(
        "--from", dest="files", metavar="DIR", help="of mnist, fashion_mnist, cifar10: your files"
    )

    config = commands.add_parser("config", help="config files")
    config = config.add_subparsers(metavar="VERB", required=True)
    _add_config(add("check", config_check, "say whether a config can be run", within=config))
    _add_config(add("show", config_show, "print a config with every key", within=config))
    add("reference", config_reference, "print docs/config.md", within=config)

    command = add("list", show_list, "what there is to choose from")
    command.add_argument("what", choices=("optimizers", "pretrained", "suites", "tasks"))
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for scripts")
    form.add_argument(
        "--markdown", action="store_true", help="of optimizers: print docs/optimizers_table.md"
    )

    command = add(
        "bench",
        bench,
        "measure speed: of meta-training, controllers, one update, tasks, evaluations",
    )
    command.add_argument("what", choices=("controller", "evaluate", "meta", "step", "tasks"))
    command.add_argument(
        "overrides",
        metavar="CONFIG key=value | NAME | KIND",
        nargs="*",
        help="for meta (default: quickstart) and controller (default: lhopt); optimizers for step; "
        "for tasks (default: every kind)",
    )
    command.add_argument("--preset", metavar="NAME", help="of meta: a shipped config, as `peer`")
    command.add_argument(
        "--sweep", action="store_true", help="of meta: over devices, tasks, parameters, length"
    )
    command.add_argument(
        "--seconds", type=positive, metavar="N", help="of meta: how long to measure (default: 10)"
    )
    command.add_argument("--json", action="store_true", help="for scripts")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments of a command; overrides after an option, which argparse leaves over, count."""
    parser = make_parser()
    args, rest = parser.parse_known_args(argv)
    if rest and hasattr(args, "overrides") and not any(text.startswith("-") for text in rest):
        args.overrides = [*args.overrides, *rest]
    elif rest:
        args.command.error(f"unrecognized arguments: {' '.join(rest)}")
    if args.handler is train:
        _check_processes(args)
    return args


def _explain(error: Exception) -> tuple[int, str] | None:
    """Exit code and message for what the user can mend, None for what is a fault of the code."""
    from learned_opt.locate import WeightsError
    from meta_train.config.errors import ConfigError
    from meta_train.evaluation.results import ResultsError
    from meta_train.reports.figures import MissingExtra
    from meta_train.run.checkpoint import CheckpointError, Unsaved
    from meta_train.run.folder import RunError
    from meta_train.run.loop import NothingFinite
    from meta_train.run.processes import ClusterError, Lost
    from tasks.base import MissingData

    if isinstance(error, MissingData):
        return MISSING_DATA, str(error)
    if isinstance(error, (Unsaved, Lost)):
        return FAILED, f"{error}; the checkpoints there are as they were: go on with --resume"
    if isinstance(error, NothingFinite):
        return FAILED, str(error)
    mendable = (UsageError, ClusterError, ConfigError, RunError, WeightsError, CheckpointError)
    if isinstance(error, (*mendable, ResultsError, MissingExtra)):
        return BAD_USAGE, str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return BAD_USAGE, f"{where}{error.strerror}"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; users' mistakes end in a line, not a traceback."""
    args = parse(argv)
    try:
        return args.handler(args)
    except (KeyboardInterrupt, Interrupted):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        explained = _explain(error)
        together = getattr(args, "distributed", False)
        if explained is None and not together:
            raise
        code, message = explained or (FAILED, traceback.format_exc())
        print(message, file=sys.stderr)
        if together:
            from meta_train.run import processes as distributed

            distributed.leave(code)
        return code


def entry(argv: Sequence[str] | None = None) -> None:
    """The console script: leaves with the code of `main`."""
    code = main(argv)
    curriculum = sys.modules.get("meta_train.run.curriculum")
    if curriculum is not None and curriculum.compiling():
        # An interpreter that ends in order would abort in the middle of that thread.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
