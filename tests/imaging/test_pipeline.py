"""Cameras drawn at random: blur against SciPy, compression against SciPy's cosine transform, draws per sample."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
import scipy.ndimage

from robustdepth.imaging.color import luminance
from robustdepth.imaging.pipeline import blur, compress, photograph


def images(count: int = 3, size: tuple[int, int] = (24, 40)) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(0).uniform(0, 1, (count, *size, 3)), jnp.float32)


def draws(*values: float) -> jnp.ndarray:
    return jnp.asarray(values, jnp.float32)[:, None, None, None]


def test_blur_is_the_gaussian_of_each_image():
    found = blur(images(), draws(0.0, 0.6, 1.0))
    np.testing.assert_array_equal(found[0], images()[0])
    for i, sigma in ((1, 0.6), (2, 1.0)):
        wanted = scipy.ndimage.gaussian_filter(
            np.asarray(images()[i], np.float64), (sigma, sigma, 0), radius=(3, 3, 0), mode="nearest"
        )
        np.testing.assert_allclose(found[i], wanted, atol=1e-5)


def test_compression_rounds_cosine_coefficients():
    image = images(1)
    grey = np.asarray(luminance(image), np.float64)
    split = np.concatenate([grey, np.asarray(image) - grey], axis=-1)[0]
    step, wanted = 0.1, np.zeros_like(split)
    u = np.arange(8)
    for y in range(0, 24, 8):
        for x in range(0, 40, 8):
            for c in range(4):
                coefficients = scipy.fft.dctn(split[y : y + 8, x : x + 8, c], norm="ortho")
                size = step * (0.5 + (u[:, None] + u) / 8) * (1 if c == 0 else 2)
                wanted[y : y + 8, x : x + 8, c] = scipy.fft.idctn(np.round(coefficients / size) * size, norm="ortho")
    found = np.asarray(compress(image, draws(step))[0])
    close = np.abs(found - (wanted[..., :1] + wanted[..., 1:])) < 1e-4
    assert close.mean() > 0.99  # a coefficient half way between two steps may be rounded either way
    np.testing.assert_array_equal(compress(image, draws(0.0)), image)


def test_strength_zero_changes_nothing_and_draws_are_per_sample():
    batch = jnp.repeat(images(6)[:1, None], 6, axis=0)  # six times the same image
    np.testing.assert_allclose(photograph(batch, jax.random.key(0), 0.0), batch, atol=2e-3)
    seen = np.asarray(photograph(batch, jax.random.key(0), 1.0))
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert len({float(image.mean()) for image in seen}) == 6
    np.testing.assert_array_equal(seen, photograph(batch, jax.random.key(0), 1.0))


def test_views_of_a_sample_share_the_camera():
    views = jnp.repeat(jnp.full((4, 1, 16, 24, 3), 0.4), 2, axis=1)
    seen = np.asarray(photograph(views, jax.random.key(3), 1.0)).mean(axis=(2, 3))
    spread = np.abs(seen[:, 0] - seen[:, 1]).max()
    assert spread < 0.02  # noise alone
    assert seen.std(axis=0).max() > 5 * spread
