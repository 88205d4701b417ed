"""How fast things run: medians, with compilation apart."""

import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.hierarchical_rnn import PRESETS
from meta_train.build import build_learner
from meta_train.config import Config

SECONDS = 10.0
LEAST_STEPS = 5
REPETITIONS = 40


def meta(config: Config, source: str = "config") -> dict[str, Any]:
    """Inner training steps per second of meta-training with `config`, over about 10 seconds."""
    learner = build_learner(config, source)
    data = learner.load()
    state = learner.init(jax.random.key(config.seed), data)
    began = time.perf_counter()
    state, metrics = learner.step(state, data)
    jax.block_until_ready(metrics)
    compiled = time.perf_counter() - began
    times: list[float] = []
    while sum(times) < SECONDS or len(times) < LEAST_STEPS:
        began = time.perf_counter()
        state, metrics = learner.step(state, data)
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - began)
    median = float(np.median(times))
    return {
        "inner_steps_per_second": learner.inner_steps / median,
        "meta_steps_per_second": 1.0 / median,
        "first_step_seconds": compiled,
        "meta_steps": len(times),
        "devices": config.parallel.devices,
        "backend": config.parallel.backend,
        "peak_memory_mib": peak_memory(),
    }


def peak_memory() -> float:
    """The most memory this process held, in MiB."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / (2**20 if sys.platform == "darwin" else 2**10)


def step() -> dict[str, Any]:
    """One update of four 512x512 matrices: hierarchical_rnn (nominal) against optax.adam.

    Medians of alternating repetitions, since a shared machine changes its pace.
    """
    keys = jax.random.split(jax.random.key(0), 4)
    params = {f"w{i}": jax.random.normal(key, (512, 512)) / 22.6 for i, key in enumerate(keys)}
    grads = jax.tree.map(jnp.sin, params)
    rule = PRESETS["nominal"]
    runs = {
        "hierarchical_rnn": rule.opt(rule.init(jax.random.key(1)), 1000),
        "adam": optax.with_extra_args_support(optax.adam(1e-3)),
    }
    updates, states, times = {}, {}, {name: [] for name in runs}
    for name, tx in runs.items():
        updates[name] = jax.jit(tx.update)
        states[name] = tx.init(params)
        jax.block_until_ready(updates[name](grads, states[name], params))
    for _ in range(REPETITIONS):
        for name in runs:
            began = time.perf_counter()
            _, states[name] = jax.block_until_ready(updates[name](grads, states[name], params))
            times[name].append(time.perf_counter() - began)
    medians = {name: float(np.median(times[name])) for name in runs}
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "hierarchical_rnn_ms": 1e3 * medians["hierarchical_rnn"],
        "adam_ms": 1e3 * medians["adam"],
        "ratio": medians["hierarchical_rnn"] / medians["adam"],
        "repetitions": REPETITIONS,
    }
