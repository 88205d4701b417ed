"""The commands that show what there is: inspect, list, config, and data prepare."""

import argparse
import json
import sys
from typing import Any

from meta_train.cli.arguments import usage
from meta_train.cli.exit_codes import INTERRUPTED
from meta_train.cli.startup import UsageError, add_config, find_config, load_config, start_jax


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
    from meta_train.yaml_subset import dump

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
    from meta_train.config import loading

    print(loading.dump(loading.load(find_config(args.config), args.overrides)), end="")
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


def add_to(add: Any, commands: Any) -> None:
    """Adds the commands; `add(name, handler, help)` makes one, `commands` holds groups of them."""
    command = add("inspect", inspect, "print the card and the shapes of a weight file")
    command.add_argument("file", metavar="FILE", help="weight file, run folder or packaged name")
    command.add_argument("--json", action="store_true", help="print JSON")

    data = commands.add_parser("data", help="datasets")
    data = data.add_subparsers(metavar="VERB", required=True)
    command = add("prepare", data_prepare, "write a dataset to disk", within=data)
    command.add_argument(
        "name",
        metavar="NAME|all",
        help="dataset; all: every one that needs neither files nor network",
    )
    command.add_argument(
        "--from", dest="files", metavar="DIR", help="your files of mnist, fashion_mnist or cifar10"
    )

    config = commands.add_parser("config", help="config files")
    config = config.add_subparsers(metavar="VERB", required=True)
    add_config(add("check", config_check, "check whether a config can run", within=config))
    add_config(add("show", config_show, "print a config with every key", within=config))
    add("reference", config_reference, "print docs/config.md", within=config)

    command = add("list", show_list, "list what there is to choose from")
    command.add_argument(
        "what",
        choices=("optimizers", "pretrained", "suites", "tasks"),
        help="optimizers, pretrained, suites or tasks",
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument(
        "--markdown", action="store_true", help="list optimizers: print docs/optimizers_table.md"
    )
