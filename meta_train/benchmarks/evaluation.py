"""How long a sweep takes from nothing, and an evaluation whose yardstick was measured before."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meta_train.evaluation.curve_cache import CurveCache
from meta_train.evaluation.entries import chosen_entries
from meta_train.evaluation.evaluate import Entry, Session, evaluate, standard_baselines

SUITE, SEEDS, STEPS = "heldout_small", 3, 1000
TARGET, BASELINES = "hierarchical_rnn", ("adam", "adam_1e-3")


def evaluation(say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of the sweep of tuned Adam, then of an evaluation of TARGET beside it.

    Both compile what they run; the second takes Adam's curves from the cache of the first.
    """
    sweep, table = standard_baselines(BASELINES[:1]), chosen_entries([TARGET], BASELINES)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(CurveCache(Path(folder)), say=say)
        return {
            "suite": SUITE,
            "seeds": SEEDS,
            "steps": STEPS,
            "rates": len(sweep[0].trials),
            "cold_sweep_seconds": _seconds(sweep, session),
            "target": TARGET,
            "warm_evaluation_seconds": _seconds(table, session),
        }


def _seconds(entries: list[Entry], session: Session) -> float:
    began = time.perf_counter()
    evaluate(entries, SUITE, SEEDS, STEPS, session=session)
    return time.perf_counter() - began
