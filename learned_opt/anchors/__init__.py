"""Strong hand-made rules, one tensor at a time, that learned rules correct."""
