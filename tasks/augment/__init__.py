"""Wrappers that make another task out of a task, each applied with a probability."""
