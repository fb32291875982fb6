"""Rendered training and evaluation examples of the driving world.

Example i is a pure function of (seed, split, i): it is the same at whatever time and beside whatever others it is
rendered. In a batch of another size the compiler rounds otherwise, which changes a few pixels along edges; several
devices that share a batch have batches of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Float, Int, Key

from robustdepth.errors import UserError, nearest
from robustdepth.types import NEXT, PREVIOUS, STEREO, Array, Batch, Camera, Scene
from robustdepth.world.raycast import FAR, View
from robustdepth.world.render import render_views
from robustdepth.world.scene import World, camera_of, sample_world

SPLITS = {"train": 0, "evaluation": 1}
TIMES = {PREVIOUS: 0, NEXT: 2, STEREO: 1}  # index into the ego's poses


def render_examples(
    indices: Int[Array, "batch"],
    *,
    seed: int,
    split: str,
    size: tuple[int, int],
    views: tuple[str, ...] = (PREVIOUS, NEXT, STEREO),
    devices: Sequence[jax.Device] = (),
) -> tuple[Batch, Scene]:
    """Renders examples `indices` of a split ("train" or "evaluation"; they share no scene) at `size` (height, width).

    Images are uint8, depth is in metres with the sky at 100, poses map points of the target camera into the source's.

    Args:
      devices: that share the examples, where these divide by their number; else they are rendered on one.

    Raises:
      UserError: if the split or a view is unknown.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r} of the procedural world: {nearest(split, SPLITS)}")
    for name in views:
        if name not in TIMES:
            raise UserError(f"unknown view {name!r} of the procedural world: {nearest(name, TIMES)}")
    indices = jnp.asarray(indices, jnp.int32)
    if len(devices) > 1 and len(indices) % len(devices) == 0:  # all that follows keeps to the examples' places
        mesh = jax.make_mesh((len(devices),), ("example",), axis_types=(AxisType.Auto,), devices=devices)
        indices = jax.device_put(indices, NamedSharding(mesh, PartitionSpec("example")))
    worlds = sample_worlds(scene_keys(seed, split, indices))
    camera = cameras_of(worlds, size)
    placed = place_views(worlds, camera, views)
    images, depth, labels, moving = render_views(worlds, placed, size)
    batch = Batch(
        target=images[:, 0],
        sources=images[:, 1:],
        source_valid=jnp.ones(images[:, 1:].shape[:2], bool),
        camera=camera,
        baseline=worlds.baseline,
        speed=travelled(placed, views),
        index=indices,
        source_names=tuple(views),
    )
    return batch, Scene(depth=depth, labels=labels, moving=moving, pose=relative_poses(placed))


def rendering_devices() -> list[jax.Device]:
    """The devices that share a batch: all of this process; one on CPUs, whose devices share the cores anyway."""
    devices = jax.local_devices()
    return devices[:1] if devices[0].platform == "cpu" else devices


def surface_depth(depth: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Rendered depth in metres with inf where it is sky, as `Batch.depth` has it."""
    return jnp.where(depth < FAR, depth, jnp.inf)


def scene_keys(seed: int, split: str, indices: Int[Array, "batch"]) -> Key[Array, "batch"]:
    """One random key a scene; the split is folded in, so that splits draw from different streams."""
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), SPLITS[split])
    return jax.vmap(functools.partial(jax.random.fold_in, key))(indices)


@jax.jit
def sample_worlds(keys: Key[Array, "batch"]) -> World:
    return jax.vmap(sample_world)(keys)


@functools.partial(jax.jit, static_argnames="size")
def cameras_of(worlds: World, size: tuple[int, int]) -> Camera:
    return jax.vmap(lambda lens: camera_of(lens, size))(worlds.lens)


@functools.partial(jax.jit, static_argnames="views")
def place_views(worlds: World, cameras: Camera, views: tuple[str, ...]) -> View:
    """All views, target first: fields have axes [batch, view, ...]."""

    def place(world: World, camera: Camera) -> View:
        def view(name: str | None) -> View:
            time = TIMES[name] if name else 1
            right = world.ego.rotation[time][:, 0] * (world.baseline if name == STEREO else 0.0)
            return View(
                position=world.ego.position[time] + right,
                rotation=world.ego.rotation[time],
                time=jnp.float32(time - 1),
                focal=camera.focal,
                center=camera.center,
            )

        return jax.tree.map(lambda *fields: jnp.stack(fields), *[view(name) for name in (None, *views)])

    return jax.vmap(place)(worlds, cameras)


@jax.jit
def relative_poses(views: View) -> Float[Array, "batch source 4 4"]:
    """T_{target -> source} from camera-to-world poses."""

    def relative(target: View, source: View) -> Float[Array, "4 4"]:
        multiply = functools.partial(jnp.matmul, precision="highest")
        rotation = multiply(source.rotation.T, target.rotation)
        translation = multiply(source.rotation.T, target.position - source.position)
        return jnp.eye(4).at[:3, :3].set(rotation).at[:3, 3].set(translation)

    of_scene = jax.vmap(relative, in_axes=(None, 0))
    first = jax.tree.map(lambda field: field[:, 0], views)
    rest = jax.tree.map(lambda field: field[:, 1:], views)
    return jax.vmap(of_scene)(first, rest)


def travelled(placed: View, views: tuple[str, ...]) -> Float[Array, "batch source"]:
    """Metres between the target and each temporal source; 0 for the stereo view."""
    distance = jnp.linalg.norm(placed.position[:, 1:] - placed.position[:, :1], axis=-1)
    return distance * jnp.array([[0.0 if name == STEREO else 1.0 for name in views]])
