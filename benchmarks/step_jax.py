"""Our side of the comparison with PyTorch; `benchmarks.step_vs_torch` starts it."""

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.step_inputs import Inputs, draw, worker
from configs import base
from robustdepth.geometry import se3
from robustdepth.methods import reprojection
from robustdepth.methods.objective import make_loss_fn
from robustdepth.models.build import build_networks
from robustdepth.runtime import sharding
from robustdepth.training.optimizer import make_optimizer
from robustdepth.training.setup import init_variables, make_state
from robustdepth.training.step import make_step
from robustdepth.types import Batch, Camera


def config_for(options: argparse.Namespace):
    """The standard monocular recipe without augmentation."""
    config = base.get_config()
    config.image_size, config.batch_size = (options.height, options.width), options.batch
    config.data.update(flip=False, jitter=(0.0, 0.0, 0.0, 0.0))
    config.optimizer.clip_norm = 0.0
    config.model.dtype = options.dtype
    return config


def batch_of(inputs: Inputs) -> Batch:
    count, height, width = inputs.images.shape[1:4]
    fx, fy, cx, cy = inputs.camera
    camera = Camera(
        np.tile(np.float32([fx, fy]), (count, 1)), np.tile(np.float32([cx, cy]), (count, 1)), (height, width)
    )
    return Batch(
        target=inputs.images[0],
        sources=inputs.images[1:].swapaxes(0, 1),
        source_valid=np.ones((count, 2), bool),
        camera=camera,
        baseline=np.zeros(count, np.float32),
        speed=np.zeros((count, 2), np.float32),
        index=np.arange(count, dtype=np.int32),
        source_names=("previous", "next"),
    )


def loss_part(options: argparse.Namespace) -> Callable[[], jax.Array]:
    """View synthesis and losses with their gradient, from given disparities and motions."""
    config, inputs = config_for(options), draw(options.batch, options.height, options.width)
    batch, settings = jax.device_put(batch_of(inputs)), reprojection.Settings.of(config)

    def loss(disparities, vectors):
        motions = [se3.matrix_from_vector(vector[:, :3], vector[:, 3:]) for vector in vectors]
        losses = reprojection.terms(settings, disparities, motions, batch, jax.random.key(0)).losses
        return sum(config.loss[name] * term.value for name, term in losses.items())

    value_and_gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    given = jax.device_put((inputs.disparities, list(inputs.vectors)))
    return lambda: value_and_gradient(*given)[0]


def inference_part(options: argparse.Namespace) -> Callable[[], jax.Array]:
    """The depth network alone, one image."""
    config = config_for(options)
    depth_net = build_networks(config)["depth"]
    variables = jax.jit(lambda: init_variables(config, {"depth": depth_net}))()["depth"]
    image = jnp.asarray(draw(1, options.height, options.width).images[0])
    infer = jax.jit(lambda image: jnp.mean(depth_net.apply(variables, image, train=False).disparities[0]))
    return lambda: infer(image)


def step_part(options: argparse.Namespace) -> Callable[[], jax.Array]:
    """Networks, losses, gradients and Adam."""
    config = config_for(options)
    networks = build_networks(config)
    optimizer = make_optimizer(config)
    state = jax.jit(lambda: make_state(config, init_variables(config, networks), optimizer))()
    step = jax.jit(
        make_step(config, make_loss_fn(config, networks["depth"], networks["pose"]), optimizer), donate_argnums=0
    )
    batch = sharding.put_batch(batch_of(draw(options.batch, options.height, options.width)), sharding.make_mesh("data"))

    def run() -> jax.Array:
        nonlocal state
        state, log = step(state, batch)
        return log.terms["loss"].value

    return run


def part(options: argparse.Namespace) -> Callable[[], jax.Array]:
    """The part on the device that was asked for; an error where JAX does not have it."""
    jax.config.update("jax_default_device", jax.devices(options.device)[0])
    return {"loss": loss_part, "inference": inference_part, "step": step_part}[options.part](options)


if __name__ == "__main__":
    worker(part)
