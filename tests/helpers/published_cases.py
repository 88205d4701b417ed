"""Which original code is compared with which imported file."""

from dataclasses import dataclass, field
from typing import Any

from helpers import published_files as files


@dataclass(frozen=True)
class Case:
    """shapes: of the file. original: a function of scripts/golden_published.py, with `choices`.

    command: what follows `learned-opt import KIND FILE --out FILE`. controls: see `files.drawn`; in
    the VeLO cases such that the chosen networks are as large as those they are made of.
    """

    kind: str
    original: str
    shapes: dict[str, Any]
    seed: int
    choices: dict[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    wrapped: bool = False
    controls: float = 1.0
    num_steps: int = 60

    def content(self) -> bytes:
        return files.file_bytes(files.drawn(self.shapes, self.seed, self.controls), self.wrapped)


def _velo(seed: int, loss: bool, state: bool, hidden: int = 8, banks: int = 4) -> Case:
    choices = dict(lstm_hidden_size=hidden, param_inits=banks)
    flags = dict(use_bugged_loss_features=loss, use_bugged_next_lstm_state=state)
    command = ("--use-bugged-loss-features",) * loss
    command += ("--use-bugged-next-lstm-state",) * state
    shapes = files.velo_shapes(hidden, banks)
    size = banks**0.5 / 100.0
    return Case("velo", "velo", shapes, seed, choices | flags, command, True, size)


CASES = {
    "velo": _velo(1, False, False),
    "velo_bugged_loss_features": _velo(2, True, False),
    "velo_bugged_lstm_state": _velo(3, False, True),
    "velo_full_size": _velo(4, False, False, 512, 256),
    "velo_s": Case(
        "velo",
        "velo_s",
        files.velo_shapes(8, 4),
        5,
        dict(lstm_hidden_size=8, param_inits=4),
        ("--bank-mult", "1"),
        controls=2.0,
    ),
    "celo": Case("celo", "celo", files.celo_shapes(), 6),
    "celo_adam": Case("celo_adam", "celo_adam", files.celo_adam_shapes(), 7),
    "celo2": Case("celo2", "celo2", files.celo2_shapes(), 8),
    "celo2_base": Case("celo2", "celo2_base", files.celo2_shapes(), 9, command=("--base",)),
    "small_fc": Case("small_fc", "small_fc", files.small_fc_shapes(4), 10),
    "small_fc_32": Case("small_fc", "small_fc", files.small_fc_shapes(32), 11, {"hidden_size": 32}),
}
