"""Kernels, bytes and exchanges of compiled training steps change on purpose only: counted for GPUs that are absent."""

import importlib.util
import json

import jax
import pytest

from benchmarks.program import count
from tests.conftest import REPOSITORY

# Written by: python -m tests.fixtures.make_program_golden
KNOWN = json.loads((REPOSITORY / "tests" / "golden" / "programs.json").read_text())


@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda12_plugin") is None,
    reason='the GPU compiler is not installed: pip install "robustdepth[cuda]"',
)
@pytest.mark.skipif(jax.__version__ != KNOWN["jax"], reason=f"programs were counted with jax {KNOWN['jax']}")
@pytest.mark.parametrize("known", KNOWN["programs"], ids=lambda known: f"{known['config']}-{known['device']}")
@jax.numpy_dtype_promotion("standard")  # Optax raises a float to an integer power
def test_a_step_has_the_known_kernels_bytes_and_exchanges(known):
    counted = count(str(REPOSITORY / "configs" / f"{known['config']}.py"), known["device"], known["set"])
    assert counted["collectives"].keys() == known["collectives"].keys()
    for section in ("parts", "collectives"):
        for name, values in known[section].items():
            assert counted[section][name] == pytest.approx(values, rel=0.02, abs=0.01), name
