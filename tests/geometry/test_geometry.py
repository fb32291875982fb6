"""Cameras, motions and warps against closed forms, OpenCV and SciPy."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robustdepth.errors import UserError
from robustdepth.geometry import camera as cameras
from robustdepth.geometry import se3
from robustdepth.geometry.depth import disparity_to_depth
from robustdepth.geometry.warp import bilinear_sample, inside, reproject, synthesise
from robustdepth.types import Camera

DRAW = np.random.default_rng(0)


def batched(fx=20.0, fy=22.0, cx=11.0, cy=7.0, size=(16, 24)) -> Camera:
    return Camera(np.array([[fx, fy]], np.float32), np.array([[cx, cy]], np.float32), size)


def noise(*shape):
    return DRAW.random(shape, np.float32)


def projected(camera: Camera, points) -> np.ndarray:
    points = np.asarray(points)[None, None, None]
    return np.asarray(cameras.project(jnp.asarray(points, jnp.float32), camera)[0])[0, 0, 0]


def test_the_identity_warp_is_the_identity_and_has_gradients_to_depth_and_translation():
    image, depth, camera = noise(1, 16, 24, 3), 2.0 + noise(1, 16, 24), batched()
    view, valid = synthesise(image, depth, camera, jnp.eye(4)[None])
    np.testing.assert_allclose(view, image, atol=1e-4)
    assert valid[:, 1:-1, 1:-1].all()

    def loss(depth, translation):
        motion = se3.matrix_from_vector(jnp.zeros((1, 3)), translation)
        return jnp.sum(synthesise(image, depth, camera, motion)[0] * noise(1, 16, 24, 3))

    to_depth, to_translation = jax.grad(loss, argnums=(0, 1))(jnp.asarray(depth), jnp.array([[0.01, 0.0, 0.0]]))
    assert jnp.linalg.norm(to_depth) > 1e-3
    assert (jnp.abs(to_translation) > 1e-3).all()
    to_translation = jax.grad(loss, argnums=1)(jnp.asarray(depth), jnp.zeros((1, 3)))
    assert (jnp.abs(to_translation) > 1e-3).all()


def test_bilinear_samples_equal_opencv_with_its_border_repeated():
    image = noise(1, 16, 24, 3)
    coordinates = np.stack([DRAW.uniform(-4, 28, (9, 13)), DRAW.uniform(-4, 20, (9, 13))], -1).astype(np.float32)
    # OpenCV rounds coordinates to 1/32 pixel: so are these
    coordinates = np.round(coordinates * 32) / 32
    expected = cv2.remap(image[0], coordinates, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(bilinear_sample(image, coordinates[None])[0], expected, atol=1e-5)


def test_gradients_to_coordinates_are_those_of_finite_differences_and_zero_outside():
    image, weights = noise(1, 8, 9, 3), noise(1, 5, 6, 3)
    inner = np.stack([DRAW.integers(0, 8, (1, 5, 6)), DRAW.integers(0, 7, (1, 5, 6))], -1) + DRAW.uniform(
        0.2, 0.8, (1, 5, 6, 2)
    )
    inner = inner.astype(np.float32)

    def loss(coordinates):
        return jnp.sum(weights * bilinear_sample(image, coordinates))

    gradient = jax.grad(loss)(inner)
    step = 0.0625  # exact for a bilinear function within one cell
    for axis in (0, 1):
        shift = np.zeros(2, np.float32)
        shift[axis] = step
        high, low = bilinear_sample(image, inner + shift), bilinear_sample(image, inner - shift)
        np.testing.assert_allclose(gradient[..., axis], jnp.sum(weights * (high - low), -1) / (2 * step), atol=1e-4)
    outside = jax.grad(loss)(inner + np.float32(100.0))
    np.testing.assert_array_equal(outside, 0.0)


@pytest.mark.parametrize("operation", ["resize", "crop", "flip"])
def test_projecting_after_an_image_operation_is_the_operation_after_projecting(operation):
    camera = batched()
    point = np.array([0.3, -0.2, 4.0], np.float32)
    x, y = projected(camera, point)
    image = jnp.zeros((1, 16, 24, 3))
    if operation == "resize":
        resized, changed = cameras.resize(image, camera, (8, 48))
        expected = (2.0 * (x + 0.5) - 0.5, 0.5 * (y + 0.5) - 0.5)
    elif operation == "crop":
        resized, changed = cameras.crop(image, camera, 3, 5, (10, 12))
        expected = (x - 5, y - 3)
    else:
        resized, changed = cameras.flip(image, camera)
        point, expected = point * np.array([-1, 1, 1], np.float32), (23 - x, y)
    assert resized.shape[1:3] == changed.size
    np.testing.assert_allclose(projected(changed, point), expected, atol=1e-4)


def test_resizing_places_pixels_where_the_camera_says():
    """A horizontal ramp whose value is x: after the resize every inner pixel still holds the x it shows."""
    ramp = jnp.broadcast_to(jnp.arange(24.0)[None, None, :, None], (1, 16, 24, 1))
    small, camera = cameras.resize(ramp, batched(fx=1.0, fy=1.0, cx=0.0, cy=0.0), (8, 12))
    x = np.arange(12)
    shown = (x - camera.center[0, 0]) / camera.focal[0, 0]  # x of the original pixel, for fx=1 and cx=0
    np.testing.assert_allclose(small[0, 3, 1:-1, 0], shown[1:-1], atol=1e-4)


def test_cameras_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="focal lengths must be positive"):
        cameras.make_camera(-5.0, 5.0, 3.0, 3.0, (8, 8))
    with pytest.raises(UserError, match="principal point"):
        cameras.make_camera(5.0, 5.0, 30.0, 3.0, (8, 8))
    with pytest.raises(UserError, match="leaves the image"):
        cameras.crop(jnp.zeros((1, 16, 24, 3)), batched(), 10, 0, (8, 8))


def test_back_projection_inverts_projection():
    camera, depth = batched(), 1.0 + 5.0 * noise(1, 16, 24)
    coordinates, z = cameras.project(cameras.back_project(depth, camera), camera)
    y, x = np.mgrid[0:16, 0:24]
    np.testing.assert_allclose(coordinates[0, ..., 0], x, atol=1e-4)
    np.testing.assert_allclose(coordinates[0, ..., 1], y, atol=1e-4)
    np.testing.assert_allclose(z, depth, rtol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-8, 1e-4, 1e-3, 0.5, 3.1])
def test_rotations_equal_scipy_at_every_size(size):
    axis = np.array([1.0, -2.0, 0.5]) / np.linalg.norm([1.0, -2.0, 0.5])
    vector = (axis * size).astype(np.float32)
    np.testing.assert_allclose(
        se3.rotation_from_axis_angle(vector), Rotation.from_rotvec(vector.astype(np.float64)).as_matrix(), atol=1e-6
    )
    jacobian = jax.jacobian(se3.rotation_from_axis_angle)(jnp.asarray(vector))
    assert jnp.isfinite(jacobian).all()


def test_the_rotation_gradient_at_zero_is_the_cross_product_matrix():
    jacobian = jax.jacobian(se3.rotation_from_axis_angle)(jnp.zeros(3))
    np.testing.assert_allclose(jacobian[..., 0], [[0, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-7)


def test_inverse_motions_undo_and_stereo_motions_shift_by_the_baseline():
    motion = se3.matrix_from_vector(jnp.array([[0.1, -0.3, 0.2]]), jnp.array([[1.0, 2.0, -3.0]]))
    np.testing.assert_allclose(se3.inverse(motion)[0] @ motion[0], np.eye(4), atol=1e-5)
    camera, depth = batched(), jnp.full((1, 16, 24), 4.0)
    coordinates, z = reproject(depth, camera, se3.stereo_motion(jnp.array([0.5])))
    x = np.arange(24)[None]
    # a camera to the right sees everything f b / z further left
    np.testing.assert_allclose(coordinates[0, ..., 0], np.repeat(x, 16, 0) - 20.0 * 0.5 / 4.0, atol=1e-4)
    assert inside(coordinates, z, camera.size).sum() == 16 * (24 - 3)  # shift 2.5: columns 0, 1 and 2 leave the image


def test_disparity_covers_the_depth_range():
    depth = disparity_to_depth(jnp.array([0.0, 1.0]), 0.1, 100.0)
    np.testing.assert_allclose(depth, [100.0, 0.1], rtol=1e-5)
