"""What one update of an optimizer costs, against one of optax.adam."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt.locate import packaged
from learned_opt.naming import check_name
from learned_opt.registry import HAND_DESIGNED, LEARNED, make
from learned_opt.use import load
from meta_train.benchmarks.timing import medians
from meta_train.config.schema import presets_of

YARDSTICK = "optax.adam"
WIDTH, DEPTH, NUM_STEPS = 512, 4, 1000
REPETITIONS = 40
# A deep network: many tensors, few shapes.
LEAVES = 100
SHAPES = ((64, 64), (64,), (64, 128), (128,), (128, 64), (3, 3, 16, 16))


def step(names: Sequence[str] = (), repetitions: int = REPETITIONS) -> dict[str, Any]:
    """One update of four 512x512 matrices by each of `names`, in turns with optax.adam.

    names: packaged, hand-designed or of a learned rule as KIND or KIND/PRESET, then with fresh
    weights; none: everything packaged and every kind. A row holds ms, ratio to optax.adam, bytes of
    state per parameter, MiB that the update holds besides its arguments and results, and seconds to
    compile it, also for LEAVES tensors of 6 shapes. Raises ValueError for an unknown name.
    """
    known = {**HAND_DESIGNED, **packaged(), **_fresh()}
    for name in names:
        check_name("optimizer", name, known)
    rules = {name: _rule(name) for name in dict.fromkeys(names or (*packaged(), *LEARNED))}
    keys = jax.random.split(jax.random.key(0), DEPTH)
    params = {
        f"w{i}": jax.random.normal(key, (WIDTH, WIDTH)) / WIDTH**0.5 for i, key in enumerate(keys)
    }
    deep = {f"w{i}": jnp.ones(SHAPES[i % len(SHAPES)]) for i in range(LEAVES)}
    rows, runs = {}, {}
    yardstick = optax.with_extra_args_support(optax.adam(1e-3))
    for name, rule in ({YARDSTICK: yardstick} | rules).items():
        runs[name], rows[name] = _compile(rule, params)
        rows[name]["compile_deep_seconds"] = _compile(rule, deep)[1]["compile_seconds"]
    taken, made = medians(runs, repetitions=repetitions)
    for name, row in rows.items():
        row |= {"ms": 1e3 * taken[name], "ratio": taken[name] / taken[YARDSTICK]}
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "repetitions": made,
        "optimizers": rows,
    }


def _rule(name: str) -> optax.GradientTransformationExtraArgs:
    if name in HAND_DESIGNED:
        return make(name, NUM_STEPS)
    if name in packaged():
        return load(name, NUM_STEPS)
    rule = _fresh()[name]
    return rule.opt(rule.init(jax.random.key(1)), NUM_STEPS)


def _fresh() -> dict[str, Any]:
    """Learned rules by KIND and KIND/PRESET."""
    rules = {kind: rule() for kind, rule in LEARNED.items()}
    for kind, rule in LEARNED.items():
        rules |= {f"{kind}/{preset}": made for preset, made in presets_of(rule).items()}
    return rules


def _compile(
    rule: optax.GradientTransformationExtraArgs, params: Any
) -> tuple[Callable[[], Any], dict[str, Any]]:
    """An endless run of updates, each from the state that the last one left, at a loss of 1."""
    grads, state = jax.tree.map(jnp.sin, params), jax.jit(rule.init)(params)
    update = jax.jit(partial(rule.update, value=1.0, eval_value=1.0))
    began = time.perf_counter()
    program = update.lower(grads, state, params).compile()
    compiled = time.perf_counter() - began
    kept = [jax.block_until_ready(program(grads, state, params))[1]]

    def run() -> Any:
        updates, kept[0] = program(grads, kept[0], params)
        return updates, kept[0]

    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    about = program.memory_analysis()
    return run, {
        "state_bytes_per_parameter": held / sum(leaf.size for leaf in jax.tree.leaves(params)),
        "temporary_mib": about.temp_size_in_bytes / 2**20 if about else None,
        "compile_seconds": compiled,
    }


def lines(found: dict[str, Any]) -> str:
    """A result as text."""
    head = f"{found['parameters']:,} parameters, medians of {found['repetitions']} in turns\n"
    return head + "\n".join(
        f"{name:<24} {row['ms']:>9.2f} ms  x{row['ratio']:>6.1f}  "
        f"{row['state_bytes_per_parameter']:>5.1f} B/parameter  "
        f"{row['temporary_mib'] or 0:>6.0f} MiB besides  "
        f"compile {row['compile_seconds']:.1f} s, {LEAVES} tensors "
        f"{row['compile_deep_seconds']:.1f} s"
        for name, row in found["optimizers"].items()
    )
