"""A golden step as users compile it: the losses of tests/test_configs.py hold with all optimisations too."""

import jax
import pytest

from tests import test_configs

pytestmark = pytest.mark.usefixtures("compiled_for_real")


@pytest.mark.parametrize("name", ["world_quickstart"])
def test_an_optimised_step_has_the_golden_losses(name):
    with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats with its integer count
        test_configs.test_config_can_be_run_and_takes_a_step(name)
