"""From a caller's array to a Prediction: resizing, scale, camera, and refusal of what is no image."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import ExifTags, Image

import robustdepth
from robustdepth.errors import UserError
from robustdepth.geometry.camera import make_camera
from robustdepth.prediction.pictures import to_uint8
from robustdepth.prediction.predictor import Predictor, as_camera, resize_map
from tests.made_up_model import RedModel, red_model


def ramp(height: int, width: int) -> np.ndarray:
    """Red rises from 0 to 255 from left to right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.round(np.linspace(0, 255, width))
    return image


@pytest.fixture
def predictor():
    return Predictor(red_model())


def test_depth_has_the_images_size_and_comes_from_the_red_channel(predictor):
    image = ramp(96, 192)
    prediction = predictor(image)
    assert prediction.depth.shape == (96, 192)
    assert prediction.depth.dtype == np.float32
    assert prediction.scale == "metric"
    # shrinking and enlarging a ramp keeps it, but for the border and for Pillow's rounding to 8 bits
    expected = image[:, 6:-6, 0] / 255 + 0.01
    np.testing.assert_allclose(1 / prediction.depth[:, 6:-6], expected, atol=1.5 / 255)


def test_scale_is_relative_without_a_stereo_rig():
    assert Predictor(red_model(views=("previous", "next")))(ramp(32, 64)).scale == "relative"


def test_resize_is_bilinear_with_half_pixel_centres():
    small = np.array([[0, 4], [8, 12]], np.float32)
    row = np.array([0, 1, 3, 4])  # 2 -> 4: new centres at -0.25, 0.25, 0.75, 1.25 of the old pixels, border repeated
    np.testing.assert_allclose(resize_map(small, (4, 4)), row[None] + 2 * row[:, None], atol=1e-6)


def test_enlarging_the_inverse_depth_of_a_plane_keeps_the_plane():
    """Inverse depth of a plane is linear in the pixel, so its bilinear resize is exact away from the border."""

    def plane(height, width):
        x, y = (np.arange(width) + 0.5) / width, (np.arange(height)[:, None] + 0.5) / height
        return (0.02 + 0.1 * y + 0.03 * x).astype(np.float32)

    large = resize_map(plane(32, 64), (120, 250))
    np.testing.assert_allclose(large[4:-4, 4:-4], plane(120, 250)[4:-4, 4:-4], rtol=1e-5)


def test_uint8_float_and_jax_arrays_give_the_same_depth(predictor):
    image = ramp(40, 80)
    expected = predictor(image).depth
    for same in (image / 255, (image / 255).astype(np.float32), jnp.asarray(image)):
        np.testing.assert_array_equal(predictor(same).depth, expected)


def test_a_batch_of_different_sizes_equals_single_calls(predictor):
    images = [ramp(40, 80), ramp(33, 65), ramp(128, 64)]
    for single, batched in zip(map(predictor, images), predictor.batch(images), strict=True):
        np.testing.assert_array_equal(single.depth, batched.depth)


def test_the_camera_is_handed_on_and_must_be_of_the_images_size(predictor):
    camera = make_camera(70.0, 70.0, 39.5, 19.5, (40, 80))
    assert predictor(ramp(40, 80), camera).camera is camera
    with pytest.raises(UserError, match=r"camera is of images 80x40, but this image is 65x33"):
        predictor(ramp(33, 65), camera)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((4, 4, 5), np.uint8), r"an array \[height, width\] .* not of shape \(4, 4, 5\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), "must be an array"),
        (np.zeros((0, 4, 3), np.uint8), "must be an array"),
        (np.zeros((4, 4, 3), np.int32), "not int32"),
        (np.zeros((4, 4, 3), bool), "not bool"),
        (np.full((4, 4, 3), 255.0), r"must lie in \[0, 1\], not \[255, 255\]"),
        (np.full((4, 4, 3), -0.1), r"must lie in \[0, 1\]"),
        (np.where(np.eye(4)[..., None] * np.ones(3) > 0, np.nan, 0.5), "holds 12 values that are NaN or infinite"),
        (np.full((4, 4, 3), np.inf), "NaN or infinite"),
        (None, r"must be an array .* shape \(\)"),
    ],
)
def test_what_is_no_image_is_refused_with_one_sentence(image, sentence):
    with pytest.raises(UserError, match=sentence):
        to_uint8(np.asarray(image))


def test_a_network_that_returns_nan_is_named():
    class Broken(RedModel):
        def inverse_depth(self, images):
            return super().inverse_depth(images) * jnp.nan

    model = red_model()
    with pytest.raises(UserError, match="network of made-up returns NaN"):
        Predictor(Broken(model.config, {}, 5, "made-up"))(ramp(32, 64))


def test_load_names_a_folder_that_is_no_training_run(tmp_path):
    with pytest.raises(UserError, match=r"no config.json in .*not a training workdir"):
        robustdepth.load(str(tmp_path))


def test_every_usual_form_of_an_image_gives_the_same_depth(predictor, tmp_path):
    rgb = ramp(40, 80)
    expected = predictor(rgb).depth
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    alpha = np.concatenate([rgb, np.full((40, 80, 1), 7, np.uint8)], axis=-1)
    for same in (
        str(tmp_path / "photo.png"),
        tmp_path / "photo.png",
        Image.fromarray(rgb),
        alpha,
        rgb * np.uint16(257),
    ):
        np.testing.assert_array_equal(predictor(same).depth, expected)
    grey = rgb[..., 0]
    for same in (grey, grey[..., None], Image.fromarray(grey)):
        np.testing.assert_array_equal(predictor(same).depth, predictor(np.repeat(grey[..., None], 3, -1)).depth)
    with pytest.raises(UserError, match=r"cannot read image .*missing\.jpg"):
        predictor(tmp_path / "missing.jpg")


def test_a_camera_may_be_a_file(predictor, tmp_path):
    path = tmp_path / "camera.json"
    path.write_text(json.dumps(dict(width=80, height=40, fx=70, fy=71, cx=39.5, cy=19.5)))
    prediction = predictor(ramp(40, 80), camera=str(path))
    np.testing.assert_allclose(prediction.camera.focal, (70, 71))
    assert prediction.points().shape == (40, 80, 3)
    with pytest.raises(UserError, match=r"a camera is the path of a camera\.json or .*, not \{'fx': 70\}"):
        as_camera({"fx": 70})


def test_predictor_and_prediction_say_what_they_are_in_one_line(predictor):
    assert repr(predictor) == "Predictor(made-up, step 5: resnet_tiny at 32x64, metric)"
    assert re.fullmatch(r"Prediction\(40x80, metric, 96% within [\d.]+ to [\d.]+ m\)", repr(predictor(ramp(40, 80))))


def test_saving_writes_what_the_ending_says(predictor, tmp_path):
    camera = make_camera(70.0, 70.0, 39.5, 19.5, (40, 80))
    prediction = predictor(ramp(40, 80), camera)
    for name in ("depth.png", "depth.npz", "points.ply", "colors.jpg"):
        prediction.save(tmp_path / name)
    with Image.open(tmp_path / "depth.png") as file:
        np.testing.assert_array_equal(np.asarray(file), np.round(prediction.depth * 256))
    with np.load(tmp_path / "depth.npz") as file:
        np.testing.assert_array_equal(file["depth"], prediction.depth)
        np.testing.assert_array_equal(file["focal"], camera.focal)
    assert (tmp_path / "points.ply").read_bytes().startswith(b"ply\n")
    with Image.open(tmp_path / "colors.jpg") as file:
        assert np.abs(np.asarray(file).astype(int) - prediction.colorize()).mean() < 5
    with pytest.raises(UserError, match=r"ends with '\.tiff': use \.png, \.npz, \.ply, \.glb or \.jpg"):
        prediction.save(tmp_path / "depth.tiff")
    with pytest.raises(UserError, match=r"cannot write .*No such file or directory"):
        prediction.save(tmp_path / "nowhere" / "depth.png")
    with pytest.raises(UserError, match="a point cloud needs a camera"):
        predictor(ramp(40, 80)).save(tmp_path / "other.ply")


def test_a_photo_says_where_its_camera_is_from(predictor, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.FocalLengthIn35mmFilm: 28}
    Image.fromarray(ramp(240, 360)).save(tmp_path / "photo.jpg", exif=exif)
    prediction = predictor(tmp_path / "photo.jpg")
    assert repr(prediction).endswith("; camera by EXIF: 28 mm of 35 mm film, 65 degrees wide)")
    np.testing.assert_allclose(prediction.camera.focal, 280, rtol=1e-6)  # 3:2, as the film: 28/36 of the width
    given = predictor(tmp_path / "photo.jpg", camera=make_camera(70.0, 70.0, 179.5, 119.5, (240, 360)))
    assert "EXIF" not in repr(given)
