"""One file per kind of problem; tasks/registry.py names them all."""
