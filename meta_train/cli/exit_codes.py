"""What the commands exit with besides 0, done."""

FAILED, BAD_USAGE, MISSING_DATA, INTERRUPTED = 1, 2, 3, 130
