"""The command line. `entry` is the console script, `main` gives the exit code."""

from meta_train.cli.command import entry, main

__all__ = ["entry", "main"]
