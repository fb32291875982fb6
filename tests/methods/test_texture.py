"""The view of changed texture: what each change may touch and how much, how often it happens, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.imaging.color import to_grey
from robustdepth.methods import texture as method
from robustdepth.methods.augment import Views, augment
from robustdepth.methods.texture import (
    CHANGES,
    choose,
    curriculum,
    interfering_texture,
    jitter_illumination,
    missing_texture,
)
from tests.tiny import random_batch, tiny_config

CLEAR = {"flip": False, "strength": (0.0, 0.0, 0.0, 0.0), "grey": 0.0}
DRAW = np.random.default_rng(3)
KEY = jax.random.key(4)
missing = jax.jit(missing_texture)
interfering = jax.jit(interfering_texture)


def config_with(batch_size: int = 4, steps: int = 100, **texture):
    config = tiny_config(steps=steps)
    config.batch_size = batch_size
    config.texture.update(dict.fromkeys(CHANGES, 0.0) | texture)
    return config


def views_of(config, image: np.ndarray | None = None) -> Views:
    batch = random_batch(config)
    if image is not None:
        batch = batch.replace(target=image)
    return augment(batch, jax.random.key(0), **CLEAR)


def middle_grey(batch: int = 4) -> np.ndarray:
    """Texture that no change drives to black or white; Float32 [batch, 32, 64, 3]."""
    return DRAW.uniform(0.35, 0.45, (batch, 32, 64, 3)).astype(np.float32)


def view(config, views: Views, step: int = 100, key=KEY):
    settings = method.Settings.of(config)
    return jax.jit(lambda v, s: method.view(settings, v, None, key, s))(views, jnp.int32(step))


def changed_cells(before: np.ndarray, after: np.ndarray) -> tuple[int, np.ndarray]:
    """Size of the cells that are changed as wholes (largest that fits) and which; checks their values."""
    touched = np.any(before != after, axis=-1)
    for size in (16, 8, 4):  # 64, 32 and 16 px at 192 rows, in an image of 48
        tops, lefts = (range(0, n, size) for n in touched.shape)
        cells = [[np.s_[y : y + size, x : x + size] for x in lefts] for y in tops]
        share = np.array([[touched[cell].mean() for cell in row] for row in cells])
        if np.isin(share, (0.0, 1.0)).all():
            for y, x in np.argwhere(share == 1.0):
                mean = before[cells[y][x]].astype(np.float64).mean((0, 1))
                np.testing.assert_allclose(after[cells[y][x]], np.broadcast_to(mean, after[cells[y][x]].shape), 1e-5)
            return size, share
    raise AssertionError("cells are changed in part")


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_missing_texture_fills_whole_cells_with_their_mean(strength):
    reflectance = DRAW.random((24, 48, 100, 3)).astype(np.float32)  # 100 cuts the last column of cells
    out = np.asarray(missing(reflectance, KEY, jnp.full(24, strength)))
    sizes, counts = set(), []
    for before, after in zip(reflectance, out, strict=True):
        size, share = changed_cells(before, after)
        low, high = np.ceil(0.1 * strength * share.size), np.ceil(0.5 * strength * share.size)
        assert low <= share.sum() <= high
        sizes.add(size)
        counts.append(share.sum())
    assert sizes == {4, 8, 16}
    assert min(counts) >= 1


def test_cells_are_never_smaller_than_four_pixels():
    reflectance = DRAW.random((8, 12, 32, 3)).astype(np.float32)
    out = np.asarray(missing(reflectance, KEY, jnp.ones(8)))
    for before, after in zip(reflectance, out, strict=True):
        touched = np.any(before != after, axis=-1).reshape(3, 4, 8, 4).mean((1, 3))
        assert np.isin(touched, (0.0, 1.0)).all()


def test_interfering_texture_blends_the_next_sample_in_through_a_mask():
    levels = np.array([1.0, 2.0, 4.0, 8.0], np.float32)
    reflectance = np.broadcast_to(levels[:, None, None, None], (4, 96, 320, 3))
    for strength in (1.0, 0.5):
        out = np.asarray(interfering(reflectance, KEY, jnp.full(4, strength)))
        weight = (out - reflectance) / (np.roll(levels, -1) - levels)[:, None, None, None]
        np.testing.assert_allclose(weight[..., 0], weight[..., 2], atol=1e-6)
        alpha = weight.max((1, 2, 3))  # the mask reaches 1 somewhere
        assert (alpha < 0.7 * strength).all()
        assert (alpha > 0.2 * strength * 0.99).all()
        assert len(np.unique(alpha)) == 4
        mask = weight[..., 0] / alpha[:, None, None]
        assert mask.min() > -1e-5
        for part in (mask < 0.02, mask > 0.98, (mask > 0.1) & (mask < 0.9)):  # untouched, blended, soft rim
            assert 0.05 < part.mean() < 0.8
        assert np.abs(np.diff(mask, axis=2)).max() < 0.5  # sigmoid(10 n) rises by 2.5 n; n by 0.2 a pixel at most


def test_without_a_mask_nothing_interferes():
    reflectance = DRAW.random((3, 24, 40, 3)).astype(np.float32)
    strength = jnp.array([0.0, 1.0, 0.0])
    for change in (missing, interfering):
        out = np.asarray(change(reflectance, KEY, strength))
        np.testing.assert_array_equal(out[[0, 2]], reflectance[[0, 2]])
        assert np.any(out[1] != reflectance[1])


def test_a_batch_of_one_meets_its_own_texture_elsewhere():
    reflectance = DRAW.random((1, 24, 40, 3)).astype(np.float32)
    out = np.asarray(interfering(reflectance, KEY, jnp.ones(1)))
    y, x = np.mgrid[0:24, 0:40]
    other = reflectance[:, (y - 12) % 24, 39 - x]  # half the height down, left and right swapped
    weight = (out - reflectance) / np.where(np.abs(other - reflectance) > 0.05, other - reflectance, np.nan)
    spread = np.nanmax(weight, axis=-1) - np.nanmin(weight, axis=-1)
    assert np.nanmax(spread) < 1e-4  # one weight explains all three channels
    assert np.nanmax(weight) < 0.7
    assert np.nanmax(weight) > 0.2 * 0.9


def test_light_changes_by_a_power_a_gain_and_a_smooth_field():
    for strength in (1.0, 0.3):
        dim, bright = (np.full((48, 24, 40, 1), level, np.float32) for level in (0.3, 0.5))
        dim_out, bright_out = (
            np.asarray(jax.jit(jitter_illumination)(light, KEY, jnp.full(48, strength)), np.float64)
            for light in (dim, bright)
        )
        assert dim_out.min() >= 0.01 - 1e-7
        assert bright_out.max() <= 1.0
        free = (dim_out > 0.011) & (bright_out < 0.999)
        kept = free.mean((1, 2, 3)) > 0.5
        dim_out, bright_out, free = dim_out[kept], bright_out[kept], free[kept]
        assert len(free) > 24
        gamma = np.where(free, (np.log(bright_out) - np.log(dim_out)) / np.log(5 / 3), np.nan)
        per_sample = np.nanmedian(gamma, axis=(1, 2, 3))
        np.testing.assert_allclose(gamma, np.where(free, per_sample[:, None, None, None], np.nan), rtol=2e-3)
        assert 0.5**strength < per_sample.min() < 0.7**strength
        assert 1.8**strength < per_sample.max() < 2.5**strength
        field = np.where(free, np.log(dim_out) - gamma * np.log(0.3), np.nan)  # log a + 0.5 n
        assert np.nanstd(field, axis=(1, 2)).min() > 0.1 * strength
        gain = np.exp(np.nanmedian(field, axis=(1, 2, 3)))  # a, times the little that is left of 48 cells' noise
        assert 1.0 - 0.75 * strength < gain.min() < 1.0 - 0.5 * strength
        assert 1.0 + 0.15 * strength < gain.max() < 1.0 + 0.45 * strength
        assert np.nanmax(np.abs(field - np.log(gain)[:, None, None, None])) < 0.75 * strength  # 0.5, and overshoot


def test_no_strength_leaves_the_light():
    light = DRAW.uniform(0.02, 1.0, (2, 24, 40, 1)).astype(np.float32)
    np.testing.assert_allclose(jitter_illumination(light, KEY, jnp.zeros(2)), light, rtol=1e-5)


def test_at_least_one_change_happens_and_none_that_is_off():
    for probabilities in ((0.5, 0.5, 0.5), (0.02, 0.0, 0.04), (0.0, 1.0, 0.0)):
        drawn = np.asarray(choose(KEY, 20_000, probabilities))
        assert drawn.any(axis=1).all()
        chances = np.array(probabilities)
        expected = chances + np.prod(1.0 - chances) * chances / chances.sum()
        np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=0.015)
        assert not drawn[:, chances == 0.0].any()


def test_each_change_alone_changes_only_what_it_must():
    image = middle_grey()
    cells = np.asarray(view(config := config_with(missing=1.0), views_of(config, image)))
    touched = np.abs(cells - image).max(-1) > 1e-5
    assert (touched.mean((1, 2)) > 0.05).all()
    assert (touched.mean((1, 2)) < 0.65).all()
    np.testing.assert_allclose(cells[~touched], image[~touched], atol=1e-6)

    light = np.asarray(view(config := config_with(jitter=1.0), views_of(config, image)))
    ratio = light / image
    unclipped = light.max(-1) < 1.0
    assert unclipped.mean() > 0.5
    np.testing.assert_allclose(ratio[unclipped], ratio[unclipped][:, :1] * np.ones((1, 3)), rtol=1e-4)
    assert (np.abs(ratio - 1.0).mean((1, 2, 3)) > 0.05).all()

    alike = np.broadcast_to(image[:1], image.shape)  # another sample's texture is one's own here
    blended = view(config := config_with(interfering=1.0), views_of(config, alike))
    np.testing.assert_allclose(blended, alike, atol=1e-6)


def test_changes_grow_over_the_first_part_of_training():
    config = config_with(interfering=1.0, warmup=0.25)
    warmup = method.Settings.of(config).warmup
    levels = [float(curriculum(warmup, jnp.int32(step))) for step in (0, 10, 25, 100)]
    np.testing.assert_allclose(levels, (0.3, 0.3 + 0.7 * 0.4, 1.0, 1.0), rtol=1e-6)
    image = middle_grey()
    views = views_of(config, image)
    start, end = (np.asarray(view(config, views, step)) - image for step in (0, 25))
    assert np.abs(end).max() > 0.02
    np.testing.assert_allclose(start, 0.3 * end, atol=2e-6)  # alpha is proportional to strength
    assert float(curriculum(0.0, jnp.int32(0))) == 1.0


def test_the_view_is_seeded_finite_and_takes_no_gradient():
    config = config_with(missing=0.5, interfering=0.5, jitter=0.5)
    image = middle_grey()
    image[1] = 0.0  # a black image
    views = views_of(config, image)
    found = view(config, views)
    assert found.shape == image.shape
    assert found.dtype == jnp.float32
    assert bool(jnp.all((found >= 0.0) & (found <= 1.0)))
    np.testing.assert_array_equal(found, view(config, views))
    assert bool(jnp.any(found != view(config, views, key=jax.random.key(5))))
    assert (np.abs(np.asarray(found) - image).max((1, 2, 3))[[0, 2, 3]] > 1e-3).all()  # each sample is changed

    settings = method.Settings.of(config)

    def total(seen):
        return jnp.sum(method.view(settings, views.replace(seen_target=seen), None, KEY, jnp.int32(9)))

    np.testing.assert_array_equal(jax.jit(jax.grad(total))(views.seen_target), 0.0)


@pytest.mark.parametrize("texture", [{"missing": 1.0, "jitter": 1.0}, {"interfering": 1.0}])
def test_black_batches_stay_black_and_batches_of_one_work(texture):
    config = config_with(batch_size=1, **texture)
    np.testing.assert_array_equal(view(config, views_of(config, np.zeros((1, 32, 64, 3), np.float32))), 0.0)
    image = middle_grey(1)
    out = view(config, views_of(config, image))
    assert float(jnp.max(jnp.abs(out - image))) > 1e-3


def test_a_sample_depends_on_no_other_but_the_next():
    config = config_with(missing=1.0, interfering=1.0, jitter=1.0)
    image = middle_grey()
    other = image.copy()
    other[3] = DRAW.uniform(0.1, 0.9, (32, 64, 3))
    changed = np.asarray(view(config, views_of(config, image)) - view(config, views_of(config, other)))
    np.testing.assert_allclose(changed[:2], 0.0, atol=1e-6)
    assert (np.abs(changed[2:]).max((1, 2, 3)) > 1e-3).all()


def test_the_view_starts_from_what_the_network_sees():
    config = config_with(missing=1.0)
    views = views_of(config, middle_grey())
    seen = jnp.asarray(middle_grey())
    out = view(config, views.replace(seen_target=seen))
    same = jnp.mean((jnp.abs(out - seen) < 1e-6).astype(jnp.float32))
    assert float(same) > 0.4
    assert float(jnp.mean((jnp.abs(out - views.clean.target) < 1e-6).astype(jnp.float32))) < 0.01


def test_grey_networks_get_grey_views():
    config = config_with(missing=1.0, interfering=1.0, jitter=1.0)
    config.data.grey = 1.0
    views = views_of(config)
    out = view(config, views.replace(seen_target=to_grey(views.seen_target)))
    np.testing.assert_array_equal(out[..., 0], out[..., 2])


@pytest.mark.parametrize("texture", [{}, {"missing": 1.5}, {"jitter": -0.1, "missing": 0.5}, {"jitter": float("nan")}])
def test_probabilities_that_are_none_stop_before_training(texture):
    config = config_with(**texture)
    with pytest.raises(UserError, match=r"config.texture has missing=.*within 0 to 1, at least one above 0"):
        method.Settings.of(config)
