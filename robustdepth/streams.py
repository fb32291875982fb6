"""Every random stream of a training, by its name: no two share a key.

    key(seed) --"initial"--> NETWORK or METHOD     what it starts from
              --"step"--> step --> NAME            what a step draws for one purpose

A name is folded in as its CRC-32, far above the small numbers that keys are split into or folded with elsewhere:
under JAX's default generator split(key)[i] equals fold_in(key, i). The procedural world folds 0 and 1 into key(seed).
"""

import zlib

import jax

from robustdepth.types import Array


def stream(key: Array, name: str) -> Array:
    """The key for one purpose. `key` itself must be used for nothing else than such streams."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def initial_key(seed: int, name: str) -> Array:
    """For the random parameters of a network, or of what a method learns beside it."""
    return stream(stream(jax.random.key(seed), "initial"), name)


def step_key(seed: int, step: Array) -> Array:
    """For everything that a training step draws, each by a `stream` of it: a pure function of the seed and the step."""
    return jax.random.fold_in(stream(jax.random.key(seed), "step"), step)
