"""Meta-trains an optimizer: the same as `learned-opt train`."""

import sys

from meta_train.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
