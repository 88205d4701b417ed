"""The command line. `entry` is the console script, `main` gives the exit code."""

from meta_train.cli.main import entry, main

__all__ = ["entry", "main"]
