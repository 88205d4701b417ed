"""The commands that make weights: train, export."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from meta_train.cli.arguments import positive, step, usage
from meta_train.cli.exit_codes import INTERRUPTED
from meta_train.cli.startup import add_config, load_config, start_jax
from meta_train.host import interruptible


def train(args: argparse.Namespace) -> int:
    with interruptible() as stopped:
        config, source = load_config(args)
        from meta_train.run import job, processes

        if args.distributed:
            processes.start(args.coordinator, args.processes, args.process_id)
        folder = Path(args.out) if args.out else Path("runs") / Path(source).stem
        outcome = job.train(
            config, folder, sys.stdout, stopped, args.overrides, args.resume, source
        )
        first = processes.is_first()
    if args.distributed:
        processes.stop()
    if outcome.status == "finished":
        lines = [f"finished at meta-step {outcome.step}: {folder}"]
    else:
        again = ["train", args.config, *args.overrides, "--out", str(folder), "--resume"]
        lines = [f"interrupted at meta-step {outcome.step}, saved; go on with:"]
        lines += [f"  learned-opt {shlex.join(again)}"]
    if first:
        print("\n".join(lines))
    return 0 if outcome.status == "finished" else INTERRUPTED


def check_processes(args: argparse.Namespace) -> None:
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


def add_to(add: Any) -> None:
    """Adds the commands; `add(name, handler, help)` makes one."""
    command = add("train", train, "meta-train an optimizer from a config")
    add_config(command)
    command.add_argument("--out", metavar="DIR", help="run folder (default: runs/NAME-OF-CONFIG)")
    command.add_argument("--resume", action="store_true", help="continue from the last checkpoint")
    _add_processes(command)

    command = add("export", export, "write the weights of a run as one file")
    command.add_argument("run", metavar="RUN", help="run folder")
    command.add_argument("file", metavar="FILE", help="weight file to write (*.safetensors)")
    command.add_argument(
        "--step",
        type=step,
        metavar="N",
        help="weights of the checkpoint at this meta-step (default: the best weights)",
    )
    command.add_argument(
        "--results", type=Path, metavar="DIR", help="evaluation whose scores go into the card"
    )


def _add_processes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--distributed",
        action="store_true",
        help="run as one of several processes, found from the cluster's environment",
    )
    command.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    command.add_argument("--processes", type=positive, metavar="N", help="number of processes")
    command.add_argument(
        "--process-id", type=step, metavar="I", help="index of this process, from 0"
    )
