"""Every help text, held by a snapshot: a change of words shows up in review.

python tests/meta_train/cli/test_help.py > tests/meta_train/cli/help.txt
"""

import argparse
from pathlib import Path

from meta_train.cli.command import make_parser

SNAPSHOT = Path(__file__).parent / "help.txt"


def texts(parser, path=("learned-opt",)):
    """A line for each command, and below it one for each of its arguments."""
    yield f"{' '.join(path)}: {parser.description or ''}".rstrip()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from texts(inner, (*path, name))
        elif action.dest != "help":
            name = "/".join(action.option_strings) or action.metavar or action.dest
            yield f"    {name}: {action.help or ''}".rstrip()


def test_help_says_what_it_said():
    assert list(texts(make_parser())) == SNAPSHOT.read_text().splitlines()


if __name__ == "__main__":
    print("\n".join(texts(make_parser())))
