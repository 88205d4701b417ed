"""JSON files that other processes read while a run goes on."""

import json
from pathlib import Path
from typing import Any

from learned_opt.files import write_whole


def write_json(path: Path, value: Any) -> None:
    """Replaces the file at once; ValueError for numbers that are not finite."""
    write_whole(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
