"""Depth under a condition beside that of the clear picture: known differences, reading, weather and streets."""

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from robustdepth.conditions.spec import parse
from robustdepth.data.images import exif_focal_length
from robustdepth.errors import UserError
from robustdepth.imaging.colormap import ColorRange
from robustdepth.prediction.conditioned import (
    FRAMES,
    Compared,
    Footage,
    compare,
    describe_colors,
    read_footage,
    write_film,
    write_street,
)
from robustdepth.prediction.pointcloud import camera_from_field_of_view
from robustdepth.prediction.prediction import Prediction
from robustdepth.prediction.predictor import Predictor
from robustdepth.world.generate import render_examples
from tests.made_up_model import red_model
from tests.prediction_files import SIZE, red, save, save_video

CAMERA = camera_from_field_of_view(70.0, SIZE)
PICTURE = red(40, 80, 120, 160)


def compared(clear: np.ndarray, changed: np.ndarray, scale: str = "metric") -> Compared:
    first, second = (Prediction(depth.astype(np.float32), scale, CAMERA) for depth in (clear, changed))
    return Compared(PICTURE, PICTURE, first, second)


def test_nearer_is_red_farther_is_blue_and_as_far_is_white():
    clear = np.full(SIZE, 10.0)
    changed = np.repeat([[10.0, 5.0, 20.0, 80.0]], 16, axis=0).repeat(32, axis=0)[: SIZE[0]].repeat(16, axis=1)
    found = compared(clear, changed)
    white, near, far, farther = found.difference()[0, ::16].astype(int)
    assert white.tolist() == [255] * 3
    assert near[0] - near[2] > 100
    assert far[2] - far[0] > 100
    np.testing.assert_array_equal(far, farther)  # a factor of 2 has the full colour
    assert found.words() == "depth changes by 100% (median), by more than 25% in 75% of the picture"


def test_depth_up_to_factor_and_shift_is_fitted_first():
    inverse = np.linspace(0.1, 1.0, SIZE[0] * SIZE[1]).reshape(SIZE)
    found = compared(1 / inverse, 1 / (3 * inverse + 0.5), "affine")
    np.testing.assert_allclose(found.ratio, 1, rtol=1e-3)
    assert compared(1 / inverse, 1 / (3 * inverse + 0.5), "relative").ratio.max() < 0.5


def test_the_surface_ends_before_the_sky(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    depth = np.full(SIZE, 10.0)
    depth[:8] = 100.0
    compared(np.full(SIZE, 7.0), depth).write_surface(tmp_path / "surface.glb")
    (mesh,) = trimesh.load(tmp_path / "surface.glb").geometry.values()
    np.testing.assert_allclose(mesh.vertices[:, 2], -0.25, rtol=1e-5)  # 4 times the median is 1
    assert mesh.vertices[:, 1].max() < 0.25 * (15.5 - 8) / float(CAMERA.focal[1]) + 1e-6


def test_fog_hides_what_is_far_and_severity_0_changes_nothing():
    footage = Footage([PICTURE, PICTURE], CAMERA, 10.0, ())
    predictor = Predictor(red_model(SIZE))
    first, second = compare(predictor, footage, parse("fog"), 1.0)
    np.testing.assert_array_equal(first.image, second.image)  # it does not flicker
    np.testing.assert_array_equal(first.clear.depth, predictor(PICTURE, CAMERA).depth)
    np.testing.assert_array_equal(first.changed.depth, predictor(first.image, CAMERA).depth)
    picture = red(255, 1)  # at 1 m, and at 72 m; fog lets one see 45 m
    foggy = next(compare(predictor, Footage([picture], CAMERA, 0.0, ()), parse("fog"), 1.0))
    change = np.abs(foggy.image.astype(int) - picture).mean(axis=(0, 2))
    assert 10 * change[:32].mean() < change[32:].mean()
    clear = next(compare(predictor, footage, parse("fog"), 0.0))
    np.testing.assert_array_equal(clear.image, PICTURE)
    assert (clear.ratio == 1).all()


def test_large_pictures_are_shrunk_and_the_camera_is_that_of_exif(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.FocalLengthIn35mmFilm: 28}
    Image.fromarray(np.zeros((400, 1280, 3), np.uint8)).save(tmp_path / "large.png", exif=exif)
    footage = read_footage(tmp_path / "large.png")
    assert footage.frames[0].shape == (200, 640, 3)
    assert footage.notes == ("camera by EXIF: 28 mm of 35 mm film, 73 degrees wide",)  # 2 atan(320 / 434)
    footage = read_footage(save(tmp_path / "small.png", PICTURE))
    np.testing.assert_array_equal(footage.frames[0], PICTURE)
    assert "70 degrees" in footage.notes[0]


def test_videos_are_read_ten_frames_a_second_and_not_to_their_end(tmp_path):
    frames = [red(20 + 2 * i) for i in range(20)]
    footage = read_footage(save_video(tmp_path / "film.avi", frames, rate=20.0))
    assert footage.rate == 10.0
    np.testing.assert_allclose([frame[..., 0].mean() for frame in footage.frames], np.arange(20, 60, 4), atol=2)
    assert footage.notes[0] == "10 frames, 10 a second"
    footage = read_footage(save_video(tmp_path / "long.avi", [red(90)] * (FRAMES + 30), rate=10.0))
    assert len(footage.frames) == FRAMES
    assert footage.notes[0].endswith(f"a video is shown up to {FRAMES} frames")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("text.jpg", b"no picture", "^cannot read image text.jpg: it holds no PNG"),
        ("empty.png", b"", "^cannot read image empty.png: "),
        ("broken.mp4", b"x" * 500, "^broken.mp4 cannot be decoded as a video"),
    ],
)
def test_what_is_no_picture_is_named_without_its_folder(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence) as told:
        read_footage(tmp_path / name)
    assert str(tmp_path) not in str(told.value)


@pytest.mark.parametrize("size", [(20, 100), (2000, 40)])
def test_a_picture_that_is_too_small_or_narrow_is_refused(tmp_path, size):
    path = save(tmp_path / "small.png", np.zeros((*size, 3), np.uint8))
    with pytest.raises(UserError, match=f"small.png has {size[1]}x{size[0]} pixels"):
        read_footage(path)


def test_a_film_holds_all_frames_below_each_other(tmp_path):
    predictor = Predictor(red_model(SIZE))
    frames = list(compare(predictor, Footage([red(40), red(200)], CAMERA, 5.0, ()), (), 0.0))
    write_film(tmp_path / "film.webm", frames, 5.0, ColorRange(0.1, 1.0))
    video = cv2.VideoCapture(str(tmp_path / "film.webm"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)
    pictures = [video.read()[1][..., ::-1] for _ in range(2)]
    assert pictures[0].shape == (3 * SIZE[0], SIZE[1], 3)  # of wide pictures
    for red_value, picture in zip((40, 200), pictures, strict=True):
        assert picture[8:24, 8:-8, 0].mean() == pytest.approx(red_value, abs=12)
        assert picture[-24:-8, 8:-8].mean() > 245  # no difference
    assert not video.read()[0]


def test_colors_are_told_in_metres_only_where_depth_has_them():
    clear = compared(np.full(SIZE, 8.0), np.full(SIZE, 8.0)).clear
    assert describe_colors(clear, ColorRange(0.02, 0.25)) == "Depth from 4 m (bright) to 50 m (dark), metric"
    relative = compared(np.full(SIZE, 8.0), np.full(SIZE, 8.0), "relative").clear
    assert describe_colors(relative, ColorRange(0.02, 0.25)) == "Depth from 4 (bright) to 50 (dark), relative"


def test_streets_are_those_of_the_world_with_their_focal_length(tmp_path):
    path = write_street(1, tmp_path, SIZE)
    batch, _ = render_examples(np.array([1]), seed=1, split="evaluation", size=SIZE, views=())
    footage = read_footage(path)
    np.testing.assert_array_equal(footage.frames[0], batch.target[0])
    assert exif_focal_length(path) is not None
    np.testing.assert_allclose(footage.camera.focal[0], batch.camera.focal[0, 0], rtol=0.03)  # whole mm
