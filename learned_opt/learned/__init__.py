"""Learned optimizers: one architecture per file."""
