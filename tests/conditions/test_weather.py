"""Every condition: identity at severity 0, seeded, monotone, in range; and the text that chooses among them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.conditions.spec import CONDITIONS, Part, parse, render_condition
from robustdepth.errors import UserError
from robustdepth.types import Camera

SIZE = (32, 64)


def street(batch: int, size: tuple[int, int] = SIZE, horizon: float = 12.0):
    """A textured street seen from 1.6 m: a road, a wall 12 m away on the left, sky; image, depth and camera."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    focal = 0.6 * width
    below = np.maximum(y - horizon, 1e-3) / focal
    depth = np.minimum(1.6 / below, 100.0)
    depth = np.where((x < 0.3 * width) & (depth > 12.0), 12.0, depth)
    texture = np.random.default_rng(0).random((height, width, 3))
    image = 0.25 + 0.5 * texture * (depth < 99)[..., None] + 0.5 * (depth >= 99)[..., None]
    image = np.minimum(image, 1.0).astype(np.float32)
    center = np.tile(np.array([[width / 2 - 0.5, horizon]], np.float32), (batch, 1))
    camera = Camera(np.full((batch, 2), focal, np.float32), center, size)
    return jnp.tile(image[None], (batch, 1, 1, 1)), jnp.tile(depth[None], (batch, 1, 1)).astype(jnp.float32), camera


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_the_identity_at_zero_grows_with_severity_and_follows_its_key(name):
    image, depth, camera = street(5)
    render = jax.jit(CONDITIONS[name])
    severity = jnp.array([0.0, 1e-4, 0.3, 0.6, 1.0])
    out = render(image, depth, camera, jax.random.key(1), severity)
    assert out.dtype == jnp.float32
    assert out.shape == image.shape
    assert bool(jnp.all((out >= 0) & (out <= 1)))
    np.testing.assert_array_equal(out[0], image[0])
    change = np.asarray(jnp.mean(jnp.abs(out - image), axis=(1, 2, 3)))
    assert change[1] < 2e-3  # no jump where it begins
    assert change[4] > max(0.002, 10 * change[1])
    np.testing.assert_array_equal(out, render(image, depth, camera, jax.random.key(1), severity))
    other = render(image, depth, camera, jax.random.key(2), severity)
    assert bool(jnp.any(other[4] != out[4]))
    # each sample draws its own sun, wind or drops, so severities are compared sample by sample
    changes = []
    for level in (0.3, 0.6, 1.0):
        rendered = render(image, depth, camera, jax.random.key(1), jnp.full(5, level))
        changes.append(float(jnp.mean(jnp.abs(rendered - image))))
    assert changes[0] < changes[1] < changes[2]


def test_a_spec_is_read_as_alternatives_of_conditions_in_order():
    assert parse("fog(0.2-1.0)|night|rain + night(.5-0.5)") == (
        (Part("fog", 0.2, 1.0),),
        (Part("night", 0.3, 1.0),),
        (Part("rain", 0.3, 1.0), Part("night", 0.5, 0.5)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fogg", 'unknown condition "fogg" in "fogg": did you mean fog'),
        ("rain+knight", "did you mean night"),
        ("fog(0.2-1.5)", "must rise within 0 to 1"),
        ("fog(0.8-0.2)", "must rise within 0 to 1"),
        ("fog(nan-1)", "must rise within 0 to 1"),
        ("fog(low-high)", "no numbers"),
        ("fog(0.5)", "cannot be read"),
        ("fog||night", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_a_wrong_spec_is_refused_in_one_sentence(text, message):
    with pytest.raises(UserError, match=message):
        parse(text)


def test_every_sample_gets_the_alternative_that_was_drawn_for_it():
    image, depth, camera = street(32)
    render, spec = jax.jit(render_condition, static_argnums=0), parse("fog(1-1)|sensor_noise(1-1)|defocus(0-0)")
    out, drawn = render(spec, image, depth, camera, jax.random.key(0))
    assert np.bincount(drawn, minlength=3).min() >= 4  # 32 / 3 expected
    sky = np.asarray(out[:, :10, 24:])  # white in every clear image
    np.testing.assert_array_equal(out[drawn == 2], image[drawn == 2])
    assert (sky[drawn == 0].std(axis=(1, 2, 3)) < 0.03).all()
    assert (sky[drawn == 1].std(axis=(1, 2, 3)) > 0.03).all()
    assert (np.asarray(out)[drawn == 0, 14].mean((1, 2)) > float(image[0, 14].mean()) + 0.1).all()
    again, _ = render(spec, image, depth, camera, jax.random.key(0))
    np.testing.assert_array_equal(out, again)


def test_a_composition_applies_its_parts_in_order():
    image, depth, camera = street(2)
    render = jax.jit(render_condition, static_argnums=0)
    noisy_fog, drawn = render(parse("sensor_noise(1-1)+fog(1-1)"), image, depth, camera, jax.random.key(0))
    noise_on_fog, _ = render(parse("fog(1-1)+sensor_noise(1-1)"), image, depth, camera, jax.random.key(0))
    assert drawn.tolist() == [0, 0]
    far = (slice(None), slice(13, 15), slice(24, None))  # the road at 30 m and more, nearly lost in fog
    assert float(jnp.std(noise_on_fog[far])) > 2 * float(jnp.std(noisy_fog[far]))
