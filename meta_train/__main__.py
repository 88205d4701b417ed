"""`python -m meta_train` is the command `learned-opt`."""

from meta_train.cli import entry

if __name__ == "__main__":
    entry()
