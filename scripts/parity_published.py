"""How far imported weights and the original code are apart after fifty steps.

    python scripts/parity_published.py celo theta.state celo.npz
    python scripts/parity_published.py velo params velo.npz --use-bugged-loss-features

The .npz file is what scripts/golden_published.py writes from the same weights, beside the original
code. What follows it are options of `learned-opt import`. Printed are, for each tensor, the largest
difference at 1, 2, 10 and 50 updates over the tensor's largest entry, and over how far it moved.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from helpers import published_files as files  # noqa: E402

import learned_opt  # noqa: E402
from meta_train.cli import main as command


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", help="of learned-opt import")
    parser.add_argument("weights", help="the published file")
    parser.add_argument("original", help="what the original code made of it, .npz")
    parser.add_argument("--num-steps", type=int, default=60, help="as for the original (60)")
    args, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "imported.safetensors"
        code = command(["import", args.kind, args.weights, "--out", str(out), *options])
        if code:
            return code
        found = files.run(learned_opt.load(out, num_steps=args.num_steps))
    for name, (size, moved) in files.differences(found, np.load(args.original)["params"]).items():
        print(f"{name:<7} {str(files.SHAPES[name]):<13} {size:.1e} of it, {moved:.1e} of its way")
    return 0


if __name__ == "__main__":
    sys.exit(main())
