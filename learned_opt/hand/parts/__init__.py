"""What can be put around the direction of an optimizer, one idea per file."""
