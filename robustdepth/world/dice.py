"""A pool of random numbers drawn once per scene and handed out in order.

One large draw compiles and runs far faster than hundreds of small ones.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Key

from robustdepth.types import Array


class Dice:
    """Deals uniform numbers from a key; which number a call gets depends only on the calls before it."""

    def __init__(self, key: Key[Array, ""], capacity: int = 2048):
        self._key, own = jax.random.split(key)
        self._pool = jax.random.uniform(own, (capacity,))
        self._next = 0

    def __call__(self, low: float = 0.0, high: float = 1.0, count: int | None = None) -> Float[Array, "..."]:
        """`count` uniform numbers in [low, high), or a scalar."""
        used = 1 if count is None else count
        if self._next + used > self._pool.shape[0]:
            raise ValueError("the scene draws more random numbers than its pool holds")
        values = low + (high - low) * self._pool[self._next : self._next + used]
        self._next += used
        return values[0] if count is None else values

    def chance(self, probability: float | Float[Array, ""], count: int | None = None) -> Bool[Array, "..."]:
        return self(count=count) < probability

    def normal(self, count: int | None = None) -> Float[Array, "..."]:
        """Roughly normal numbers that never exceed 3 standard deviations: a sum of three uniform ones."""
        return self(-1.0, 1.0, count) + self(-1.0, 1.0, count) + self(-1.0, 1.0, count)

    def seed(self, count: int | None = None) -> Int[Array, "..."]:
        return (self(count=count) * 2.0**23).astype(jnp.int32)

    def key(self) -> Key[Array, ""]:
        """A key for dice of one's own; only one, for a second call gives the same."""
        return self._key
