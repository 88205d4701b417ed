"""Weight files of other projects, read into this package's own; run by `learned-opt import`."""
