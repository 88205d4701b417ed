"""Runs an optimizer over a suite of tasks: the same as `learned-opt evaluate`."""

import sys

from meta_train.cli import entry

if __name__ == "__main__":
    entry(["evaluate", *sys.argv[1:]])
