"""The models behind the conditions against textbook formulas, integrals and slow NumPy versions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.conditions.blur import DOUBLINGS, blur_along, blur_by, circle_of_confusion, flow_of, motion_blur
from robustdepth.conditions.condition import to_display, to_radiance
from robustdepth.conditions.fields import cells, seeds
from robustdepth.conditions.fog import extinction
from robustdepth.conditions.lens import far_direction, veiling
from robustdepth.conditions.night import headlights, night
from robustdepth.conditions.precipitation import Fall, Layer, particles, rain, rain_drops, snow_flakes, wet_ground
from robustdepth.conditions.scene import airlight, attenuate, ground, mirrored_in_ground, sky
from robustdepth.conditions.sensor import noisy
from robustdepth.geometry import se3
from robustdepth.types import Camera
from tests.conditions.test_weather import street

DRAW = np.random.default_rng(3)


def value(x: float) -> jnp.ndarray:
    """One number for a batch of one."""
    return jnp.full((1, 1, 1, 1), x)


def view(size: tuple[int, int], focal: float) -> Camera:
    center = np.array([[size[1] / 2 - 0.5, size[0] / 2 - 0.5]], np.float32)
    return Camera(np.full((1, 2), focal, np.float32), center, size)


def test_radiance_stays_near_the_srgb_curve_and_comes_back():
    display = np.linspace(0, 1, 101, dtype=np.float32)
    srgb = np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(to_radiance(jnp.asarray(display)), srgb, atol=0.045)
    np.testing.assert_allclose(to_display(to_radiance(jnp.asarray(display))), display, atol=1e-6)


def test_at_the_meteorological_visibility_two_percent_of_the_contrast_is_left():
    pair = jnp.stack([jnp.zeros((3, 4, 4)), jnp.ones((3, 4, 4))])
    light = jnp.full((2, 3, 1, 1), 0.7)
    depth = jnp.full((2, 1, 4, 4), 250.0)
    black, white = attenuate(pair, depth, jnp.full((2, 1, 1, 1), extinction(250.0)), light)
    np.testing.assert_allclose(white - black, 0.02, rtol=1e-3)
    np.testing.assert_allclose(black, 0.7 * 0.98, rtol=1e-3)


def test_airlight_is_the_brightness_of_the_bright_part():
    radiance = np.full((1, 3, 48, 80), 0.1, np.float32)
    radiance[:, :, :16] = 0.8
    np.testing.assert_allclose(airlight(jnp.asarray(radiance)), 0.8, atol=0.02)


def test_numbers_of_particles_are_integrals_of_their_size_distributions():
    diameters = np.linspace(0, 30, 300_001)  # mm

    def number(density: np.ndarray, smallest: float) -> float:
        there = diameters >= smallest
        return float(np.sum(density[there]) * (diameters[1] - diameters[0]))

    for rate in (5.0, 100.0):
        drops = number(8000 * np.exp(-4.1 * rate**-0.21 * diameters), 3.0)
        assert float(rain_drops(value(rate))[0, 0, 0, 0]) == pytest.approx(drops, rel=1e-3)
    flakes = number(3800 * 2.0**-0.87 * np.exp(-2.55 * 2.0**-0.48 * diameters), 1.0)
    assert float(snow_flakes(value(2.0))[0, 0, 0, 0]) == pytest.approx(flakes, rel=1e-3)


def test_a_layer_holds_as_many_particles_of_the_right_size_as_its_density_says():
    """Counted as connected bright spots; their spread along the fall must be that of drop and travel together."""
    from cv2 import connectedComponentsWithStats

    camera, layer = view((480, 640), 400.0), Layer(1.0, 2.0)
    still = Fall(value(0.0), value(0.0), value(0.08))
    density = value(40.0)
    coverage = np.asarray(particles(camera, jax.random.key(0), still, layer, 8e-3, density, 2 * density)[0, 0])
    count, _, stats, _ = connectedComponentsWithStats((coverage > 0).astype(np.uint8), connectivity=8)
    expected = 40.0 * (2.0**3 - 1.0**3) / 3.0 * (480 / 400) * (640 / 400)
    assert count - 1 == pytest.approx(expected, rel=0.2)  # cells at the border are cut, and neighbours touch
    distance = 2.0**0.5
    whole = 2**0.5 * 400 * (8e-3 + 0.08) / distance  # profiles end at sqrt(2) radii
    assert stats[1:, 3].max() <= whole + 2
    assert np.median(stats[1:, 3]) > 0.4 * whole  # sizes vary from 0.4 to 1
    assert stats[1:, 2].max() <= 2 * (2**0.5 * 400 * 8e-3 / distance) + 2  # two neighbours at most


def test_streaks_run_through_the_vanishing_point_of_their_motion():
    """Driving as fast as rain falls: brightness changes little along rays from (0, -1)."""
    camera = view((400, 400), 200.0)
    driving = Fall(value(0.0), value(1.0), value(0.6))
    coverage = np.asarray(
        particles(camera, jax.random.key(4), driving, Layer(1, 2), 4e-2, value(30.0), value(30.0))[0, 0]
    )
    y, x = (np.mgrid[0:400, 0:400] - 199.5) / 200.0
    down, right = np.gradient(coverage)

    def energy(run_x: np.ndarray, run_y: np.ndarray) -> float:
        """Share of the squared gradient along a direction."""
        along = (right * run_x + down * run_y) / np.hypot(run_x, run_y)
        return float((along**2)[100:].sum() / (right**2 + down**2)[100:].sum())

    # ellipses some 11 times as long as wide leave 1%; the picture of parallel streaks would have the least upright
    assert energy(x, y + 1) < 0.25 * energy(0 * x, 1 + 0 * y)
    assert energy(x, y + 1) < 0.1 * energy(-x, y + 1)


def test_cells_draw_uniform_numbers_that_their_pixels_share():
    across, along = jnp.meshgrid(jnp.arange(200.0) / 2 + 0.25, jnp.arange(200.0) / 2 + 0.25)
    cell = cells(across[None, None], along[None, None], seeds(jax.random.key(0), 1))
    for draw in cell.draws:
        np.testing.assert_array_equal(draw[..., 0::2], draw[..., 1::2])
        np.testing.assert_allclose(np.histogram(draw, bins=4, range=(0, 1))[0] / draw.size, 0.25, atol=0.02)
        assert abs(np.corrcoef(draw[0, 0, :, :-2].ravel(), draw[0, 0, :, 2:].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(cell.draws[0].ravel(), cell.draws[1].ravel())[0, 1]) < 0.05


def test_particles_are_hidden_by_what_is_nearer():
    _, _, camera = street(1)
    dark = jnp.full((1, 32, 64, 3), 0.2).at[:, 24:].set(1.0)  # streaks are as bright as the brightest part
    render = jax.jit(rain)
    hidden, seen = (
        render(dark, jnp.full((1, 32, 64), depth), camera, jax.random.key(0), jnp.ones(1))[:, :8]
        for depth in (0.5, 5.0)
    )
    assert float(jnp.std(hidden)) < 1e-3
    assert float(jnp.std(seen)) > 0.01


def test_ground_and_sky_are_found_at_any_scale_of_depth():
    _, depth, camera = street(1)
    for scale in (1.0, 0.02):
        on_ground = np.asarray(ground(scale * depth[:, None], camera))[0, 0]
        assert on_ground[16:, 24:].min() > 0.95
        assert on_ground[:12].max() == 0.0
        assert on_ground[13:15, :16].max() < 0.05  # the wall
        in_sky = np.asarray(sky(scale * depth[:, None], camera))[0, 0]
        assert in_sky[:11, 24:].min() == 1.0
        assert in_sky[:, :16].max() == 0.0
        assert in_sky[14:].max() == 0.0


def test_a_wet_road_is_darker_and_mirrors_the_bright_sky_more_where_seen_at_a_grazing_angle():
    image, depth, camera = street(1, (96, 192), horizon=40.0)
    grey = jnp.where(jnp.arange(96)[None, None, :, None] < 40, 0.8, 0.1) * jnp.ones((1, 3, 96, 192))
    np.testing.assert_allclose(mirrored_in_ground(grey, camera)[:, :, 56:72, 10:-10], 0.8, atol=0.05)
    wet = np.asarray(wet_ground(grey, depth[:, None], camera, jax.random.key(0), value(1.0)))[0, 0]
    assert np.abs(wet[:36] - 0.8).max() < 1e-6
    assert wet[42:48, 80:].mean() > 0.2  # far: water mirrors
    assert 0.05 < wet[90:, 80:].mean() < 0.1  # near: dark asphalt
    dry = wet_ground(grey, depth[:, None], camera, jax.random.key(0), value(0.0))
    np.testing.assert_array_equal(dry, grey)
    assert image.shape == (1, 96, 192, 3)


def test_noise_has_the_variance_of_photons_and_read_out():
    for level in (0.05, 0.5):
        noise = noisy(jnp.full((1, 3, 128, 128), level), jax.random.key(0), shot=value(0.02), read=value(0.03)) - level
        assert float(jnp.mean(noise)) == pytest.approx(0.0, abs=2e-3)
        assert float(jnp.var(noise)) == pytest.approx(0.02 * level + 0.03**2, rel=0.03)


def test_headlights_fall_off_with_the_square_of_the_distance_and_end_at_the_cut_off():
    camera = view((64, 64), 60.0)
    near, far = (headlights(jnp.full((1, 1, 64, 64), d), camera)[0, 0] for d in (100.0, 200.0))
    np.testing.assert_allclose(near / far, 4.0, rtol=0.03)
    assert float(near[60, 32]) > 100 * float(near[10, 32])


def test_nights_grow_darker_and_far_things_darker_than_near_ones():
    image = jnp.full((1, 32, 64, 3), 0.6)
    _, depth, camera = street(1)
    render = jax.jit(night)
    means = [float(render(image, depth, camera, jax.random.key(0), jnp.full(1, s)).mean()) for s in (0.2, 0.5, 1.0)]
    assert 0.6 > means[0] > means[1] > means[2] > 0.02
    dark = np.asarray(render(image, depth, camera, jax.random.key(0), jnp.ones(1)))[0].mean(-1)
    assert dark[26:, 24:40].mean() > 2 * dark[13:15, 24:40].mean()  # the road before the car and far away


def test_a_constant_flow_blurs_as_the_mean_of_shifted_images():
    radiance = DRAW.random((1, 3, 12, 96)).astype(np.float32)
    flow = np.zeros((1, 12, 96, 2), np.float32)
    flow[..., 0] = 2.0**DOUBLINGS
    blurred = blur_along(jnp.asarray(radiance), jnp.asarray(flow))
    count = 2**DOUBLINGS
    offsets = np.arange(count) - (count - 1) / 2  # half pixels: the mean of both neighbours
    columns = np.arange(24, 72)
    expected = np.mean(
        [0.5 * (radiance[..., columns + int(o - 0.5)] + radiance[..., columns + int(o + 0.5)]) for o in offsets], axis=0
    )
    np.testing.assert_allclose(blurred[..., 24:72], expected, atol=1e-5)


def test_flow_is_that_of_a_pinhole_camera_and_motion_blurs_near_things_most():
    camera = view((32, 64), 40.0)
    depth = jnp.full((1, 32, 64), 10.0)
    step = se3.matrix_from_vector(jnp.zeros((1, 3)), jnp.array([[0.1, 0.0, -0.5]]))
    flow = np.asarray(flow_of(depth, camera, step))[0]
    x = (np.arange(64) - 31.5) / 40.0
    np.testing.assert_allclose(flow[5, :, 0], 40 * (10 * x + 0.1) / 9.5 - 40 * x, atol=1e-4)
    far = flow_of(depth, camera, se3.matrix_from_vector(jnp.zeros((1, 3)), jnp.array([[9.0, 0.0, 0.0]])))
    np.testing.assert_allclose(jnp.linalg.norm(far, axis=-1), 0.05 * 64, rtol=1e-4)
    image = jnp.asarray(DRAW.random((8, 32, 64, 3)), jnp.float32)
    cameras = Camera(np.repeat(camera.focal, 8, 0), np.repeat(camera.center, 8, 0), camera.size)
    render = jax.jit(motion_blur)
    near, far = (
        jnp.std(render(image, jnp.full((8, 32, 64), d), cameras, jax.random.key(0), jnp.ones(8))) for d in (2.0, 80.0)
    )
    assert float(near) < 0.8 * float(far)


def test_the_circle_of_confusion_is_that_of_a_thin_lens():
    """Rays from both rims of the lens, followed to the sensor: 1/f = 1/u + 1/v."""
    focal_length, pixel, focus, aperture = 0.008, 5e-6, 2.0, 0.004
    sensor = 1 / (1 / focal_length - 1 / focus)  # where the image of `focus` lies
    for depth in (0.7, 2.0, 30.0):
        image = 1 / (1 / focal_length - 1 / depth)
        on_sensor = aperture * abs(sensor - image) / image / pixel
        camera = view((4, 4), sensor / pixel)
        circle = circle_of_confusion(jnp.full((1, 1, 4, 4), depth), camera, value(focus), value(aperture))
        np.testing.assert_allclose(circle, on_sensor, rtol=1e-4, atol=1e-3)


def test_defocus_spreads_a_point_as_widely_as_its_disc():
    """The variance of a uniform disc of diameter c is (c / 4)^2 along each axis; places of the point are averaged."""
    x = np.arange(64)[None]
    for diameter in (2.0, 6.0, 12.0):
        variances = []
        for place in range(8):
            point = np.zeros((1, 3, 64, 64), np.float32)
            point[:, :, 28 + place, 28 + place] = 1.0
            out = np.asarray(blur_by(jnp.asarray(point), jnp.full((1, 1, 64, 64), diameter)))[0, 0]
            assert out.sum() == pytest.approx(1.0, rel=0.02) or diameter > 2
            mean = (out * x).sum() / out.sum()
            variances.append((out * (x - mean) ** 2).sum() / out.sum() + (mean - 28 - place) ** 2)
        assert np.mean(variances) == pytest.approx((diameter / 4) ** 2, rel=0.15)
    sharp = DRAW.random((1, 3, 32, 32)).astype(np.float32)
    np.testing.assert_array_equal(blur_by(jnp.asarray(sharp), jnp.zeros((1, 1, 32, 32))), sharp)


def test_veiling_light_falls_with_the_square_of_the_angle():
    veil = veiling(jnp.array([[[[10.0**2, 20.0**2]]]]), 1.0)[0, 0, 0]
    assert float(veil[0] / veil[1]) == pytest.approx(4.0, rel=0.03)
    assert float(veil[0]) == pytest.approx(10 / 10**2, rel=0.03)


def test_the_sun_stands_where_the_scene_is_farthest():
    _, depth, camera = street(16)
    right, _ = far_direction(depth[:, None], camera, jax.random.key(0))
    # the wall covers the left 30%; four draws all fall on it once in a hundred
    columns = np.asarray(right)[:, 0, 0, 0] * 0.6 * 64 + 31.5
    assert (columns > 0.3 * 64).mean() > 0.85
