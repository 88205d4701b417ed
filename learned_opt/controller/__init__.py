"""A learned controller that edits the hyperparameters of a running optimizer (2106.00958)."""
