"""The benchmark's corruptions against the package `imagecorruptions`, Pillow, and NumPy from the formulas."""

import io
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from robustdepth.conditions.corruptions import blur, digital, frost, noise, weather
from robustdepth.conditions.corruptions.benchmark import corrupt
from tests.fixtures import make_corruption_fixtures as fixtures

IMAGE = fixtures.make_image()
HEIGHT, WIDTH = fixtures.SIZE
SEVERITIES = range(1, 6)


@pytest.fixture(scope="module")
def package():
    with np.load(fixtures.FOLDER / "corruptions.npz") as arrays:
        return dict(arrays)


def differences(result: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.abs(result.ravel()[:: fixtures.STRIDE].astype(int) - wanted.astype(int))


@pytest.mark.parametrize("name", ["brightness", "contrast", "defocus", "zoom", "pixelate", "jpeg"])
def test_corruptions_without_randomness_equal_the_package(package, name):
    """Within one level: the package truncates double precision, so a whole level may come out as the one below."""
    exact = name in ("pixelate", "jpeg", "contrast")
    for severity in SEVERITIES:
        (result,) = np.asarray(corrupt(IMAGE[None], name, severity, jax.random.key(severity)))
        assert differences(result, package[name][severity - 1]).max() <= (0 if exact else 1), severity


def draws_of(name: str, severity: int) -> tuple:
    """The package's draws for a seed, in its order; NumPy keeps this generator's streams for ever."""
    legacy = np.random.RandomState(fixtures.SEED)
    match name:
        case "fog":
            return (jnp.float32(legacy.uniform(-1, 1, 128**2 - 1)),)
        case "snow":
            return jnp.float32(legacy.normal(size=fixtures.SIZE)), jnp.float32(legacy.uniform(-135, -45))
        case "motion":
            return (jnp.float32(legacy.uniform(-45, 45)),)
        case "elastic":
            return (jnp.float32(legacy.uniform(-1, 1, (2, *fixtures.SIZE))),)
        case _:
            reach = blur.GLASS_REACH[severity - 1]
            offsets = np.zeros((max(blur.GLASS_ROUNDS), *fixtures.SIZE, 2), np.int32)
            for i in range(blur.GLASS_ROUNDS[severity - 1]):
                for row in range(HEIGHT - reach, reach, -1):
                    for column in range(WIDTH - reach, reach, -1):
                        offsets[i, row, column] = legacy.randint(-reach, reach, size=2)[::-1]
            return (jnp.asarray(offsets),)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("fog", weather.fog_of),
        ("snow", weather.snow_of),
        ("glass", blur.glass_of),
        ("motion", blur.motion_of),
        ("elastic", digital.elastic_of),
    ],
)
def test_random_corruptions_equal_the_package_on_its_own_draws(package, name, function):
    """Within one level, for single precision against double before truncation."""
    function = jax.jit(function)
    for severity in SEVERITIES:
        corrupted = function(jnp.asarray(IMAGE / np.float32(255)), jnp.int32(severity - 1), *draws_of(name, severity))
        result = np.floor(np.clip(np.asarray(corrupted), 0, 1) * 255 + 1e-3)
        assert differences(result, package[name][severity - 1]).max() <= 1, severity


def shares(values: np.ndarray) -> np.ndarray:
    return np.bincount(values.ravel() // 16, minlength=16) / values.size


def assert_same_distribution(ours: np.ndarray, theirs: np.ndarray, count: int) -> None:
    """Shares of `count` values each: their difference has variance 2 p (1 - p) / count; 5 deviations are allowed."""
    p = (ours + theirs) / 2
    assert (np.abs(ours - theirs) <= 5 * np.sqrt(2 * p * (1 - p) / count) + 1e-9).all()


FLAT = np.stack([np.full((*fixtures.FLAT, 3), grey, np.uint8) for grey in fixtures.GREYS])


@pytest.mark.parametrize("name", ["gaussian", "shot", "impulse"])
def test_noise_is_distributed_as_the_packages(package, name):
    for severity in SEVERITIES:
        results = np.asarray(corrupt(FLAT, name, severity, jax.random.key(severity)))
        for result, wanted in zip(results, package[name][severity - 1], strict=True):
            assert_same_distribution(shares(result), wanted, result.size)
            # independent between neighbours and channels: a correlation of n pairs has deviation 1 / sqrt(n)
            for a, b in ((result[:, 1:], result[:, :-1]), (result[..., 0], result[..., 1])):
                if result.std() > 0:
                    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / math.sqrt(a.size)


def numpy_iso(image: np.ndarray, severity: int, draw: np.random.Generator) -> np.ndarray:
    counted = np.clip(draw.poisson(image / 255 * 25) / 25, 0, 1)
    return counted + draw.normal(0, 0.7 * [0.08, 0.12, 0.18, 0.26, 0.38][severity - 1], image.shape)


def numpy_dark(image: np.ndarray, severity: int, draw: np.random.Generator) -> np.ndarray:
    x = image / 255
    dimmed = [0.6, 0.5, 0.4, 0.3, 0.2][severity - 1] * ((x - x.min()) / (x.max() - x.min())) ** 2
    photons = 10 * [60, 25, 12, 5, 3][severity - 1]
    counted = np.clip(draw.poisson(dimmed * photons) / photons, 0, 1)
    return counted + draw.normal(0, 0.1 * [0.08, 0.12, 0.18, 0.26, 0.38][severity - 1], image.shape)


@pytest.mark.parametrize(("name", "function"), [("iso", numpy_iso), ("dark", numpy_dark)])
def test_robodepths_own_noise_follows_its_formula(name, function):
    image = FLAT.reshape(-1, *FLAT.shape[2:])  # all greys in one image: `dark` needs their range
    for severity in SEVERITIES:
        draw = np.random.default_rng(severity)
        wanted = np.uint8(255 * np.clip(function(image, severity, draw), 0, 1)).reshape(FLAT.shape)
        result = np.asarray(corrupt(image[None], name, severity, jax.random.key(severity))).reshape(FLAT.shape)
        for ours, theirs in zip(result, wanted, strict=True):
            assert_same_distribution(shares(ours), shares(theirs), ours.size)


def test_poisson_counts_have_their_mean_and_variance():
    """Standard errors of n samples: sqrt(rate / n) of the mean, about sqrt((2 + 1 / rate) / n) of variance / rate."""
    rates = np.zeros(256, np.float32)
    rates[[20, 90, 160, 240]] = (0.05, 3.0, 55.0, 360.0)
    for grey, image in zip(fixtures.GREYS, FLAT / np.float32(255), strict=True):
        counts = np.asarray(noise._count_photons(image, jnp.asarray(rates), jax.random.key(grey), 512))
        rate, n = rates[grey], counts.size
        assert abs(counts.mean() - rate) < 5 * math.sqrt(rate / n)
        assert abs(counts.var() / rate - 1) < 5 * math.sqrt((2 + 1 / rate) / n)
    assert not noise._count_photons(np.zeros((4, 4, 3), np.float32), jnp.zeros(256), jax.random.key(0), 64).any()


def test_colour_quantisation_drops_bits():
    for severity, mask in zip(SEVERITIES, (0b11111000, 0b11110000, 0b11100000, 0b11000000, 0b10000000), strict=True):
        (result,) = np.asarray(corrupt(IMAGE[None], "color_quant", severity, jax.random.key(0)))
        np.testing.assert_array_equal(result, IMAGE & mask)


@pytest.mark.parametrize("size", [(45, 70), (32, 48), (33, 47), (64, 49)])
def test_jpeg_is_libjpegs_to_the_last_bit(size):
    image = np.resize(np.tile(IMAGE, (2, 2, 1))[: size[0], : size[1]], (*size, 3))
    for severity, quality in zip(SEVERITIES, (25, 18, 15, 10, 7), strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        (result,) = np.asarray(corrupt(image[None], "jpeg", severity, jax.random.key(0)))
        np.testing.assert_array_equal(result, np.asarray(Image.open(file)))


@pytest.mark.parametrize("size", [(32, 33), (47, 61), (96, 50)])
def test_pixelate_is_pillows_to_the_last_bit(size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    for severity, share in zip(SEVERITIES, (0.6, 0.5, 0.4, 0.3, 0.25), strict=True):
        small = Image.fromarray(image).resize((int(size[1] * share), int(size[0] * share)), Image.Resampling.BOX)
        wanted = np.asarray(small.resize(size[::-1], Image.Resampling.NEAREST))
        np.testing.assert_array_equal(corrupt(image[None], "pixelate", severity, jax.random.key(0))[0], wanted)


def test_frost_has_the_statistics_of_the_packages_photographs(package):
    """The texture is procedural: means within 10%, deviations within 25% (crops of one photograph differ by as much),
    power within a factor 3 in every octave over all photographs, within 8 for any single one."""
    textures = jax.jit(jax.vmap(lambda kind, key: frost.frost_texture(fixtures.FROST_SIZE, kind, key)))
    ratios = []
    for kind, (mean, deviation) in enumerate(package["frost_moments"]):
        keys = jax.random.split(jax.random.key(kind), fixtures.FROST_DRAWS)
        layers = np.floor(0.4 * 255 * np.asarray(textures(jnp.full(len(keys), kind), keys)))  # severity 1 on black
        np.testing.assert_allclose(layers.mean((0, 1, 2)), mean, rtol=0.1)
        np.testing.assert_allclose(layers.std((0, 1, 2)), deviation, rtol=0.25)
        ratios.append(np.abs(np.log(fixtures.octaves(layers.mean(-1)) / package["frost_octaves"][kind])))
    assert np.max(ratios) < np.log(8)
    assert np.mean(ratios, axis=0).max() < np.log(3)


def test_frost_is_laid_over_the_darkened_image():
    image = jnp.full((32, 48, 3), 0.5)
    for severity, (kept, laid) in enumerate(((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)), start=1):
        key = jax.random.key(severity)
        frosted, layer = (jax.jit(frost.frost)(x, jnp.int32(severity - 1), key) for x in (image, 0 * image))
        np.testing.assert_allclose(frosted, kept * image + layer, atol=1e-6)
        assert 0.2 * laid < layer.mean() < 0.9 * laid
