"""The command that reads other projects' weight files: import."""

import argparse
import math
from pathlib import Path
from typing import Any

from meta_train.cli.arguments import usage
from meta_train.cli.startup import start_jax

ABOUT = {
    "velo": "VeLO (2211.09760), of google/learned_optimization, and VeLO-S of Celo's authors",
    "celo": "Celo (2501.12670)",
    "celo_adam": "Celo-Adam (2501.12670)",
    "celo2": "Celo2 (2602.19142), and Celo2-base",
    "small_fc": "the small per-parameter network on Adafactor features (2203.11860)",
}
OPTIONS = {"command", "handler", "kind", "file", "out", "source", "licence"}


def import_file(args: argparse.Namespace) -> int:
    start_jax()
    from meta_train.published.importing import import_weights

    given = {name: value for name, value in vars(args).items() if name not in OPTIONS}
    chosen = {name: value for name, value in given.items() if value is not None}
    out = Path(args.out)
    with usage():
        card = import_weights(args.kind, Path(args.file), out, chosen, args.source, args.licence)
    print(f"{out}: {card['kind']}, {card['licence']}, from {card['source']}")
    choices = ", ".join(f"{name} {value}" for name, value in card["spec"].items())
    print("\n".join([f"choices: {choices}", *(f"note: {note}" for note in card["notes"])]))
    return 0


def above_0(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0.0):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; it must be a number above 0")
    return number


def add_to(add: Any, commands: Any) -> None:
    """Adds the command, and under it a command for each kind by `add(name, handler, help)`."""
    command = commands.add_parser("import", help="read published weights of other projects")
    kinds = command.add_subparsers(metavar="KIND", required=True)
    for kind, about in ABOUT.items():
        command = add(kind, import_file, about, within=kinds)
        command.set_defaults(kind=kind)
        command.add_argument("file", metavar="FILE", help="written by flax.serialization")
        command.add_argument(
            "--out", required=True, metavar="FILE", help="weight file to write (*.safetensors)"
        )
        command.add_argument("--source", metavar="TEXT", help="where the file comes from")
        command.add_argument("--licence", metavar="TEXT", help="under which the file is published")
        if kind == "velo":
            _add_velo(command)
        if kind == "celo2":
            command.add_argument(
                "--base",
                action="store_true",
                help="weights of Celo2-base: the network for every tensor, no orthogonalisation",
            )


def _add_velo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config",
        metavar="FILE",
        help="config.gin of the weights (default: the one beside a checkpoint, where there is one)",
    )
    for name, help in (
        ("use_bugged_loss_features", "trained when all timescales of the loss were 10 steps"),
        ("use_bugged_next_lstm_state", "trained when the LSTM stayed in its first state"),
    ):
        flag = f"--{name.replace('_', '-')}"
        command.add_argument(
            flag, dest=name, action=argparse.BooleanOptionalAction, default=None, help=help
        )
    command.add_argument(
        "--bank-mult",
        type=above_0,
        metavar="N",
        help="what the mean of the networks is multiplied by: 100 in VeLO (default), 1 in VeLO-S",
    )
