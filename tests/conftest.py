"""Strict settings for every test: 8 fake devices, no silent rank or type promotion, shapes checked at every call."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pathlib

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
# Compiling takes longer than these small programs run; commands that tests start inherit this, too. Where a test must
# hold for what users run, it has `compiled_for_real`; JAX_DISABLE_MOST_OPTIMIZATIONS=false gives it to all.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
# Compiled programs are kept between tests, and handed on to the commands that tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")  # by default it is a whole second

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

PACKAGES = (
    "conditions",
    "geometry",
    "imaging",
    "losses",
    "methods",
    "models",
    "teachers",
    "compiling",
    "commands",
    "world.generate",  # the classes of a scene gain axes under vmap, so the rest of the package is not checked
    "training",
    "evaluation",
    "prediction",
    "runtime",
)
install_import_hook([f"robustdepth.{package}" for package in PACKAGES], "beartype.beartype")


LONGEST = ("test_configs.py", "test_train_command.py", "test_distributed.py", "test_readme.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin, so that no worker waits at the end for the other one to finish such a file."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


takes_minutes = pytest.mark.skipif(
    not os.environ.get("ROBUSTDEPTH_ALL_TESTS"), reason="takes minutes on two cores: make test-all runs it"
)


@pytest.fixture(scope="module", autouse=True)
def settings_stay():
    """No module leaves optimisations on, with which all that come after it would compile for longer."""
    before = jax.config.read("jax_disable_most_optimizations")
    yield
    assert jax.config.read("jax_disable_most_optimizations") == before


@pytest.fixture(scope="module")
def compiled_for_real():
    """Programs have the optimisations that users have, in a module's tests and in the commands that they start."""
    before = jax.config.read("jax_disable_most_optimizations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "false")
        jax.config.update("jax_disable_most_optimizations", False)
        yield
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """Real KITTI footage kept beside the repository, never inside it; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real footage not found at {folder}")
    return folder
