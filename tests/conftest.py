"""Settings every test runs under; they must be made before JAX starts."""

import os
import tempfile
from pathlib import Path

import jaxtyping
import pytest
from jaxlib.version import __version_info__ as JAXLIB

os.environ["JAX_PLATFORMS"] = "cpu"
# Nearly all of the suite's time is compilation. An unknown flag would end the process: of those
# that only some releases of jaxlib have, the first halves that time, the second takes a tenth off.
FASTER = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
FASTER = FASTER if JAXLIB < (0, 11) else ""
os.environ.setdefault("XLA_FLAGS", f"--xla_backend_optimization_level=0 {FASTER}")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "learned-opt-test-cache")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
os.environ.setdefault("TFDS_DATA_DIR", str(Path(tempfile.gettempdir()) / "learned-opt-test-data"))

# While tests run, every call is held to its annotations, shapes included.
jaxtyping.install_import_hook(["learned_opt", "tasks", "meta_train"], "type_checks.checked")


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    """No test reads or writes the curves in the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def unchecked():
    """For tests that give values of a wrong type on purpose, to see what a user is told."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
