"""The three illumination estimates against SciPy, scikit-image and textbook loops; what an image falls into."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage.restoration import denoise_tv_chambolle

from robustdepth.errors import UserError
from robustdepth.imaging.filters import box_filter, gaussian_filter, guided_filter, total_variation_filter
from robustdepth.imaging.resize import resize_image
from robustdepth.imaging.retinex import ESTIMATES, decompose, illumination, recompose

DRAW = np.random.default_rng(7)
METHOD_NAMES = tuple(ESTIMATES)
split = jax.jit(decompose, static_argnums=1)


def street(height: int = 32, width: int = 64, batch: int = 2) -> np.ndarray:
    """A bright sky, a dark building and a road with a gradient, all textured; Float64 [batch, height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width] / height
    shape = np.where(y < 0.4, 0.8, 0.25 + 0.4 * y)
    shape = np.where((x > 0.5) & (x < 1.0) & (y > 0.1), 0.2, shape)
    texture = 1.0 + 0.15 * np.sin(25 * x) * np.sin(25 * y)
    colors = DRAW.uniform(0.6, 1.0, (batch, 1, 1, 3))
    return np.clip((shape * texture)[None, ..., None] * colors, 0.0, 1.0)


def window_mean(values: np.ndarray, radius: int) -> np.ndarray:
    """Box means as the textbook writes them: one window at a time, cut at the border."""
    out = np.empty(values.shape)
    for b, y, x in np.ndindex(values.shape):
        rows, columns = (slice(max(c - radius, 0), c + radius + 1) for c in (y, x))
        out[b, y, x] = values[b, rows, columns].mean()
    return out


def variation(values: np.ndarray, data: np.ndarray, weight: float) -> float:
    """The functional of Rudin, Osher & Fatemi with forward differences, in float64."""
    values = np.asarray(values, np.float64)
    down, right = np.zeros_like(values), np.zeros_like(values)
    down[:, :-1], right[:, :, :-1] = np.diff(values, axis=1), np.diff(values, axis=2)
    return 0.5 * np.sum((values - data) ** 2) + weight * np.sum(np.hypot(down, right))


def test_box_filter_averages_what_lies_inside():
    values = DRAW.random((2, 9, 14))
    for radius in (1, 3, 20):  # the last one spans the whole map
        found = box_filter(jnp.asarray(values, jnp.float32), radius)
        np.testing.assert_allclose(found, window_mean(values, radius), atol=1e-6)


def test_guided_filter_equals_he_et_al_in_float64():
    guide, values = street(12, 18).mean(-1), street(12, 18).max(-1) + 0.1 * DRAW.random((2, 12, 18))
    radius, epsilon = 3, 1e-2
    mean_guide, mean_values = window_mean(guide, radius), window_mean(values, radius)
    covariance = window_mean(guide * values, radius) - mean_guide * mean_values
    slope = covariance / (window_mean(guide**2, radius) - mean_guide**2 + epsilon)
    offset = mean_values - slope * mean_guide
    expected = window_mean(slope, radius) * guide + window_mean(offset, radius)
    found = guided_filter(jnp.asarray(guide, jnp.float32), jnp.asarray(values, jnp.float32), radius, epsilon)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("sigma", [1.5, 6.0, 40.0])
def test_gaussian_filter_equals_scipy_without_the_outside(sigma):
    values = DRAW.random((2, 20, 33))
    blur = {"sigma": (0, sigma, sigma), "mode": "constant", "truncate": 40.0 / sigma}
    expected = ndimage.gaussian_filter(values, **blur) / ndimage.gaussian_filter(np.ones_like(values), **blur)
    np.testing.assert_allclose(gaussian_filter(jnp.asarray(values, jnp.float32), sigma), expected, atol=2e-6)


def test_total_variation_converges_to_what_chambolle_finds():
    values, weight = street().max(-1) + 0.05 * DRAW.standard_normal((2, 32, 64)), 0.2
    data = jnp.asarray(values, jnp.float32)
    found = jax.jit(total_variation_filter, static_argnums=(1, 2))(data, weight, 500)
    expected = np.stack([denoise_tv_chambolle(v, weight=weight, eps=1e-12, max_num_iter=5000) for v in values])
    np.testing.assert_allclose(found, expected, atol=2e-3)
    least = variation(expected, values, weight)
    assert variation(found, values, weight) == pytest.approx(least, rel=1e-4)
    assert variation(values, values, weight) > 2 * least


def test_the_total_variation_estimate_nearly_minimises_its_functional():
    image = street(48, 80)
    light = illumination(jnp.asarray(image, jnp.float32), "total_variation")[..., 0]
    values, weight = image.max(-1), 0.25  # 1 px at 192 rows
    best = np.stack([denoise_tv_chambolle(v, weight=weight, eps=1e-12, max_num_iter=2000) for v in values])
    assert variation(light, values, weight) < 1.02 * variation(best, values, weight)


def test_multi_scale_is_the_geometric_mean_of_three_blurs():
    image = street()
    blurs = [
        ndimage.gaussian_filter(image.max(-1), (0, s, s), mode="constant", truncate=40.0)
        / ndimage.gaussian_filter(np.ones(image.shape[:3]), (0, s, s), mode="constant", truncate=40.0)
        for s in (15 / 6, 80 / 6, 250 / 6)  # 32 rows are a sixth of 192
    ]
    found = illumination(jnp.asarray(image, jnp.float32), "multi_scale")
    np.testing.assert_allclose(found[..., 0], np.cbrt(np.prod(blurs, axis=0)), atol=1e-5)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_an_image_is_its_two_factors(method):
    image = jnp.asarray(street(), jnp.float32)
    reflectance, light = split(image, method)
    np.testing.assert_allclose(recompose(reflectance, light), image, atol=1e-6)
    assert float(light.min()) >= 0.02
    assert float(light.max()) <= 1.0
    brightest = np.asarray(image).max(-1)
    for part in (np.s_[:, 2:10, 4:12], np.s_[:, 14:20, 36:60]):  # sky and the road beside the building
        assert np.asarray(light[..., 0])[part].std() < brightest[part].std()  # texture stays in the reflectance


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_an_even_image_is_all_illumination(method):
    image = jnp.broadcast_to(jnp.array([0.3, 0.6, 0.4], jnp.float32), (1, 32, 64, 3))
    reflectance, light = split(image, method)
    np.testing.assert_allclose(light, 0.6, atol=1e-5)
    np.testing.assert_allclose(reflectance, image / 0.61, rtol=1e-4)


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize(("value", "darkest"), [(0.0, 0.02), (1.0, 1.0)])
def test_black_and_white_images_stay_finite(method, value, darkest):
    image = jnp.full((1, 32, 64, 3), value)
    reflectance, light = split(image, method)
    np.testing.assert_allclose(light, darkest, atol=1e-5)
    np.testing.assert_allclose(reflectance, value / (darkest + 0.01), atol=1e-4)
    np.testing.assert_allclose(recompose(reflectance, light), image, atol=1e-6)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_samples_do_not_meet(method):
    images = jnp.asarray(street(batch=3), jnp.float32)
    together = split(images, method)
    alone = split(images[1:2], method)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a[1:2], b, atol=1e-6)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_no_gradient_passes(method):
    def total(image):
        reflectance, light = decompose(image, method)
        return jnp.sum(reflectance) + jnp.sum(light) + jnp.sum(illumination(image, method))

    image = jnp.asarray(street(16, 16, 1), jnp.float32)
    np.testing.assert_array_equal(jax.jit(jax.grad(total))(image), 0.0)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_the_parts_do_not_depend_on_the_size(method):
    large = resize_image(jnp.asarray(street(), jnp.float32), (96, 192))
    small = resize_image(large, (48, 96))
    difference = resize_image(illumination(large, method), (48, 96)) - illumination(small, method)
    assert float(jnp.mean(jnp.abs(difference))) < 0.005  # lengths in plain pixels would give 0.013 to 0.022


def test_an_unknown_method_is_named_with_the_nearest():
    with pytest.raises(UserError, match='unknown illumination estimate "guidd": did you mean guided'):
        illumination(jnp.zeros((1, 16, 16, 3)), "guidd")
