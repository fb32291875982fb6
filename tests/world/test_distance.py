"""Distant land goes on where surfaces end, and has the sky's depth."""

import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.world.raycast import FAR
from tests.world.test_render import AHEAD, HEIGHT, RIGHT, look, rays

SKY, LAND = (0.1, 0.2, 0.9), (0.9, 0.2, 0.1)


@pytest.fixture
def plain_world(empty_world):
    """A blue sky over grey ground without marks, in still and clear air, all lit alike."""
    sky = {"zenith": jnp.array(SKY), "horizon": jnp.array(SKY), "clouds": jnp.float32(-1.0)}
    light = empty_world.light.replace(
        **sky,
        sun_color=jnp.zeros(3),
        ambient=jnp.full(3, 0.6),
        haze=jnp.float32(0),
        gamma=jnp.float32(1),
        saturation=jnp.float32(1),
        skyline=jnp.array([-1.0, 0.0, 200.0]),
        skyline_color=jnp.array(LAND),
    )
    ground = empty_world.ground.replace(
        color=jnp.full((4, 3), 0.4), contrast=jnp.zeros(4), tiles=jnp.zeros(4), dash=jnp.array([0.0, 5.0, 0.5])
    )
    still = {name: jnp.float32(0) for name in ("edge", "zebra", "cracks")}
    return empty_world.replace(light=light, ground=ground.replace(**still))


def test_ground_goes_on_to_the_horizon(plain_world):
    image, depth, _, _ = look(plain_world, AHEAD, RIGHT)
    down = rays()[..., 1]
    beyond, above = (down > 0) & (HEIGHT / np.maximum(down, 1e-6) > 1.01 * FAR), down <= 0
    assert beyond.any()
    assert (depth[0][beyond] == FAR).all()
    near = image[0][(depth[0] < 0.9 * FAR)]
    np.testing.assert_allclose(image[0][beyond].mean(0), near.mean(0), atol=3)
    np.testing.assert_allclose(image[0][above].mean(0), 255 * np.array(SKY), atol=3)


def test_the_skyline_is_as_high_as_it_is_drawn(plain_world):
    height = 0.08
    light = plain_world.light.replace(skyline=jnp.array([height, 0.0, 200.0]))
    image, depth, _, _ = look(plain_world.replace(light=light), AHEAD, RIGHT)
    ray = rays()
    up = -ray[..., 1] / np.linalg.norm(ray, axis=-1)
    red = image[0][..., 0] > image[0][..., 2]
    np.testing.assert_array_equal(red, (up >= 0) & (up < height))
    assert (depth[0][red] == FAR).all()


def test_haze_hides_what_is_far(plain_world):
    light = plain_world.light.replace(skyline=jnp.array([0.08, 0.0, 300.0]), haze=jnp.float32(0.1))
    image, depth, _, _ = look(plain_world.replace(light=light), AHEAD, RIGHT)
    assert np.abs(image[0][depth[0] == FAR] - 255 * np.array(SKY)).max() < 3
