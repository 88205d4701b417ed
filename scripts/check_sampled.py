"""Draws many tasks from every distribution and trains none: each must build, and start finite.

    python scripts/check_sampled.py 1200 --operations 1000000000

A task is compiled, its first loss and gradient computed. Exit code 1 where one is not finite.
"""

import argparse
import gc
import os
import sys
import time
import traceback

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import jax.numpy as jnp

from tasks.cost import Limit
from tasks.distributions import DISTRIBUTIONS
from tasks.distributions.base import Listed


def finite(family) -> bool:
    @jax.jit
    def first(data, key):
        cfg_key, init_key, batch_key, loss_key = jax.random.split(key, 4)
        task = family.task(family.sample(cfg_key), data)
        batch = task.batch(batch_key, "train")
        value, grads = jax.value_and_grad(task.loss)(task.init(init_key), loss_key, batch)
        leaves = [value, *jax.tree.leaves(grads)]
        return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]).all()

    return bool(first(family.load(), jax.random.key(0)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="tasks of each distribution that is drawn")
    parser.add_argument("--first", type=int, default=0, help="draws to leave out at the start")
    parser.add_argument("--operations", type=int, help="most operations of a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(DISTRIBUTIONS))
    args = parser.parse_args()
    failed = 0
    for name, distribution in DISTRIBUTIONS.items():
        if args.only not in (None, name):
            continue
        listed = isinstance(distribution, Listed)
        count = len(distribution.families) if listed else args.count
        began = time.perf_counter()
        good = 0
        limit = Limit(operations=args.operations)
        first = 0 if listed else args.first
        families = distribution.sample(args.seed, count, limit, first)
        for index, family in enumerate(families):
            try:
                ok = finite(family)
            except Exception:
                traceback.print_exc()
                ok = False
            good += ok
            if not ok:
                print(f"not finite: {family}", flush=True)
            if index % 100 == 99:
                jax.clear_caches()
                gc.collect()
                print(f"  {name}: {good} of {index + 1}", file=sys.stderr, flush=True)
        failed += count - good
        seconds = time.perf_counter() - began
        print(f"{name}: {good} of {count} tasks start finite ({seconds:,.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
