"""Estimators whose tasks look at one another: the same run on every backend and device count."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

RUNS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import jax, optax
jax.config.update("jax_num_cpu_devices", 2)
from helpers.toys import Descent, NoisyLine
from meta_train.estimators import ESTIMATORS
from meta_train.inner.horizons import Growing
from meta_train.learners.gradient import GradientLearner
from meta_train.inner.objectives import LogLoss
from meta_train.parallel import Parallel
from meta_train.inner.unroll import Episodes

rule, out = Descent(), {}
episodes = Episodes(NoisyLine(), rule, Growing(5, 9, 40, 4))
for backend, devices in [("vmap", 1), ("shard_map", 2), ("pmap", 2), ("vmap", 2)]:
    estimator = ESTIMATORS[sys.argv[2]](episodes, LogLoss(), length=5, **json.loads(sys.argv[3]))
    one = GradientLearner(rule, (estimator,), (1.0,), 4, optax.adam(1e-2), 0.9,
                          parallel=Parallel(backend, devices))
    data = one.load()
    state = one.init(jax.random.key(0), data)
    seen = []
    for _ in range(3):
        state, metrics = one.step(state, data)
        seen += [float(metrics["tasks/noisy_line/" + x]) for x in ("objective", "horizon")]
    out[f"{backend} {devices}"] = [float(state.theta["rate"]), *seen]
print(json.dumps(out))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fields"), [("es", {}), ("backprop_es", {}), ("pes", {"shaping": "ranks"})]
)
def test_backends_and_device_counts_agree(kind, fields):
    tests = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", RUNS, tests, kind, json.dumps(fields)],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    runs = json.loads(done.stdout)
    reference = np.array(runs.pop("vmap 1"))
    assert np.isfinite(reference).all()
    for name, run in runs.items():
        np.testing.assert_allclose(run, reference, rtol=1e-4, err_msg=name)
