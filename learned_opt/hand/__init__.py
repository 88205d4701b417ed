"""Hand-designed optimizers: the baselines, and the rules that learned ones correct."""
