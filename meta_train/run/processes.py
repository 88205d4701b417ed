"""Several processes as one run: how they start, meet, decide alike and end."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from meta_train.config.errors import ConfigError

SECONDS_WITHOUT_SIGN = 30  # of life from a process before the others end
SECONDS_BETWEEN_QUESTIONS = 1.0


class ClusterError(ValueError):
    """The processes of a run cannot find each other; the message says what is missing."""


class Lost(RuntimeError):
    """Another process of the run is gone."""


def start(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the other processes; before any other use of JAX.

    coordinator: host:port at which process 0 is reached. All None: JAX asks the cluster. Returns
    when all processes are there. Raises ClusterError.
    """
    # Its handler of SIGTERM would take the place of ours.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            cluster_detection_method=None if coordinator is None else "deactivate",
            heartbeat_timeout_seconds=SECONDS_WITHOUT_SIGN,
        )
    except (ValueError, RuntimeError) as error:
        raise ClusterError(
            f"--distributed: {str(error).splitlines()[0]} (where no cluster is found, give "
            "--coordinator HOST:PORT --processes N --process-id I)"
        ) from error


def stop() -> None:
    """Ends the connection when all processes have come to this point."""
    jax.distributed.shutdown()


def leave(code: int) -> None:
    """Ends this process without the others, who may never come to the point where all end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_first() -> bool:
    """Whether this process is the one that writes what a run writes once."""
    return jax.process_index() == 0


def meet(name: str) -> None:
    """Returns when every process has come here; name: equal in all of them."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def of_first(number: int) -> int:
    """The number that the first process gives."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


@contextmanager
def losses_named() -> Iterator[None]:
    """Raises Lost for what JAX raises when another process is gone."""
    try:
        yield
    except ConfigError:
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        gone = ("Gloo", "Connection", "peer", "heartbeat", "coordination", "NCCL")
        if jax.process_count() == 1 or not any(word in str(error) for word in gone):
            raise
        raise Lost(
            f"process {jax.process_index()}: another process of this run is gone "
            f"({str(error).splitlines()[0][:200]})"
        ) from error


class Wish(NamedTuple):
    """What a process wants to happen between two meta-steps."""

    stop: bool
    save: bool


class Agreement:
    """Makes all processes of a run do the same: what one of them wishes.

    They ask each other about once a second, at meta-steps that are the same for all; in between
    nothing is agreed. Alone, a process has its wish at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked = clock()
        self._step: int | None = None
        self._next = 0

    def ask_soon(self) -> None:
        """Forgets the pace: what comes next may be faster or slower."""
        self._step, self._next = None, 0

    def __call__(self, step: int, wish: Wish) -> Wish:
        if jax.process_count() == 1:
            return wish
        if step < self._next:
            return Wish(False, False)
        now, pace = self._clock(), 1
        if self._step is not None:
            seconds = (now - self._asked) / (step - self._step)
            pace = max(1, int(SECONDS_BETWEEN_QUESTIONS / max(seconds, 1e-6)))
        gathered = multihost_utils.process_allgather(
            np.array([wish.stop, wish.save, pace], np.int32)
        )
        stop, save, _ = gathered.max(axis=0)
        self._asked, self._step, self._next = now, step, step + int(gathered[:, 2].min())
        return Wish(bool(stop), bool(save))
