"""Runs an optimizer over a suite of tasks: the same as `learned-opt evaluate`."""

import sys

from meta_train.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
