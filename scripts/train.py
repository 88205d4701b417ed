"""Meta-trains an optimizer: the same as `learned-opt train`."""

import sys

from meta_train.cli import entry

if __name__ == "__main__":
    entry(["train", *sys.argv[1:]])
