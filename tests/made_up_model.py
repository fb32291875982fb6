"""A model whose depth is known in closed form, for tests of what is done with predictions."""

import jax.numpy as jnp

from robustdepth.runtime.inference import DepthModel
from tests.tiny import tiny_config


class RedModel(DepthModel):
    """Inverse depth is the image's red channel, 0.01 more; no network, nothing to compile."""

    def inverse_depth(self, images):
        return jnp.asarray(images)[..., 0] + 0.01


def red_model(size: tuple[int, int] = (32, 64), views: tuple[str, ...] = ("stereo",)) -> RedModel:
    config = tiny_config(views)
    config.image_size = size
    return RedModel(config=config, variables={}, step=5, path="made-up")
