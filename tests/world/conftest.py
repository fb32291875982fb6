"""A world to put things into."""

import jax
import jax.numpy as jnp
import pytest

from robustdepth.world import generate
from robustdepth.world.ground import NOWHERE

KINDS = ("boxes", "screens", "columns", "crowns")


@pytest.fixture(scope="module")
def empty_world():
    """A straight flat road without kerbs, and nothing on it."""
    world = jax.tree.map(lambda field: field[0], generate.sample_worlds(jax.random.split(jax.random.key(0), 1)))
    park = lambda solids: solids.replace(center=solids.center.at[:, 1].set(NOWHERE))  # noqa: E731
    ground = world.ground.replace(curvature=jnp.float32(0), crest=jnp.float32(0), kerb=jnp.float32(0))
    return world.replace(ground=ground, **{kind: park(getattr(world, kind)) for kind in KINDS})
