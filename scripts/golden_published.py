"""Runs the original code of published learned optimizers on seeded weights, or on published ones.

The originals are not part of this package. Check out google/learned_optimization and amoudgl/celo,
install what they need beside flax (dm-haiku, gin-config, tensorflow-datasets, optax, jax), and run
this file with the Python that has them; it imports nothing of this package:

    export PYTHONPATH=CHECKOUT-OF-LEARNED-OPTIMIZATION:CHECKOUT-OF-CELO
    python scripts/golden_published.py velo               # writes tests/meta_train/published/golden
    python scripts/golden_published.py all
    python scripts/golden_published.py celo --weights theta.state --out celo.npz

Without --weights the file is rebuilt from the seed of the case, as the tests rebuild it. The output
holds the parameters after 1, 2, 10 and 50 updates on tensors of ranks 0 to 4, one row each.
Compare with this package in its own environment:

    python scripts/parity_published.py celo theta.state celo.npz

Sorting axes by size leaves the order of equal ones to NumPy, whose choice differs between
processors from four axes on; the originals are run here with the stable order.
"""

import argparse
import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers import published_cases as cases, published_files as files  # noqa: E402

np.argsort = functools.partial(np.argsort, kind="stable")

ADAM_TENSORS = r"^(scale|bias|one)$"  # what Celo2 leaves to Adam: fewer than two axes


def velo(**choices):
    from learned_optimization.research.general_lopt import hyper_v2

    return hyper_v2.HyperV2(**choices)


def velo_s(**choices):
    from celo.optimizers import velo

    flags = dict(use_bugged_next_lstm_state=False, use_bugged_loss_features=False)
    return velo.HyperV2(**flags, ff_mult=1.0, **choices)


def celo():
    from celo.optimizers import celo

    return celo.Celo(lstm_hidden_size=64, param_inits=1, train_phase=2)


def celo_adam():
    from celo.optimizers import celo_adam

    return celo_adam.Celo(lstm_hidden_size=64, initial_rms_decays=(0.999,))


def celo2_base():
    from celo.optimizers import celo2

    return celo2.Celo2Base()


def celo2():
    from celo.optimizers import celo2

    return celo2.Celo2(regex_1d=ADAM_TENSORS, adam_b1=0.9, adam_b2=0.95, mult_1d=20.0)


def small_fc(**choices):
    from learned_optimization.learned_optimizers import adafac_mlp_lopt

    return adafac_mlp_lopt.AdafacMLPLOpt(**choices)


def rows(rule, theta, num_steps):
    """The parameters after the kept numbers of updates, [kept, entries]."""
    template = rule.init(jax.random.PRNGKey(0))
    theta = serialization.from_state_dict(template, theta)
    check = lambda want, have: np.testing.assert_equal(have.shape, want.shape)
    jax.tree.map(check, template, theta)
    opt, key = rule.opt_fn(jax.tree.map(jnp.asarray, theta)), jax.random.PRNGKey(0)
    state = opt.init(jax.tree.map(jnp.asarray, files.start()), num_steps=num_steps, key=key)
    update = jax.jit(lambda state, grads, loss: opt.update(state, grads, loss=loss, key=key))
    gradients, losses, kept = files.gradients(), files.losses(), []
    for t in range(files.STEPS):
        state = update(state, {name: leaf[t] for name, leaf in gradients.items()}, losses[t])
        if t + 1 in files.KEPT:
            kept.append(files.flat(opt.get_params(state)))
    return np.stack(kept)


def unwrapped(content):
    tree = serialization.msgpack_restore(content)
    return tree.get("params", tree)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", choices=("all", *cases.CASES))
    parser.add_argument("--weights", type=Path, help="a published file")
    parser.add_argument("--out", type=Path, help="default: the golden values of the tests")
    args = parser.parse_args()
    for name in cases.CASES if args.case == "all" else [args.case]:
        case = cases.CASES[name]
        content = args.weights.read_bytes() if args.weights else case.content()
        found = rows(globals()[case.original](**case.choices), unwrapped(content), case.num_steps)
        out = args.out or ROOT / "tests/meta_train/published/golden" / f"{name}.npz"
        if not np.isfinite(found).all():
            raise ValueError(f"{name}: the original left the finite numbers with these weights")
        np.savez(out, params=found)
        print(f"{out}: {found.shape}, moved {np.abs(found[-1] - files.flat(files.start())).max()}")


if __name__ == "__main__":
    main()
