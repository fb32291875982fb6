"""Whole prediction runs on files, with a model of known depth: what is written, and what bad input costs."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from robustdepth.errors import UserError
from robustdepth.imaging.colormap import ColorRange, colorize
from robustdepth.prediction.prediction import encode_depth
from tests.checkpoints import save_untrained
from tests.prediction.test_pointcloud import read_ply
from tests.prediction_files import predict, red, save, save_video, written
from tests.tiny import tiny_config

pytestmark = pytest.mark.usefixtures("made_up_network")


def test_every_file_of_an_image_holds_the_known_depth(tmp_path, capsys):
    image = red(25, 51, 102, 204)
    kinds = ("png", "npz", "color", "ply")
    picture = save(tmp_path / "street.png", image)
    summary = predict([picture], tmp_path / "out", field_of_view=90.0, kinds=kinds, edge=0.0)
    expected = 1 / (image[..., 0] / 255 + 0.01)

    with np.load(tmp_path / "out" / "street_depth.npz", allow_pickle=False) as arrays:
        depth = arrays["depth"]
        assert arrays["scale"] == "metric"
        np.testing.assert_allclose(arrays["focal"], [32, 32], rtol=1e-6)
        np.testing.assert_allclose(arrays["center"], [31.5, 15.5])
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, expected, rtol=1e-5)

    with Image.open(tmp_path / "out" / "street_depth.png") as png:
        assert png.mode.startswith("I;16")
        np.testing.assert_array_equal(np.asarray(png), np.round(expected * 256))

    _, rows = read_ply(tmp_path / "out" / "street_points.ply")
    x, y, z, *color = rows[5 * 64 + 40]
    np.testing.assert_allclose([x, y, z], [(40 - 31.5) / 32 * z, (5 - 15.5) / 32 * z, expected[5, 40]], rtol=1e-5)
    assert color == [102, 40, 90]

    with Image.open(tmp_path / "out" / "street_color.png") as colors:
        brightness = np.asarray(colors).astype(int).sum(axis=-1)[0, ::16]
    assert (np.diff(brightness) > 50).all()  # nearer is brighter

    assert summary["scale"] == "metric"
    assert summary["images"] == 1
    assert summary["problems"] == []
    np.testing.assert_allclose(summary["colors"]["brightest_at_depth"], 1 / (204 / 255 + 0.01), rtol=1e-3)
    said = capsys.readouterr().out
    assert "metric scale, depth in metres" in said
    assert "field of view of 90 degrees" in said
    assert "ASSUMED" not in said


def test_16_bit_depth_saturates_and_never_means_unknown():
    depth = np.array([[1e-6, 1.0, 255.99, 256.0, 1e9]], np.float32)
    assert encode_depth(depth, 256.0).tolist() == [[1, 256, 65533, 65535, 65535]]


def test_colours_have_fixed_ends_and_a_constant_map_is_no_error():
    shown = ColorRange(far=0.1, near=0.5)
    ends = colorize(np.array([[0.0, 0.1, 0.5, 9.0]], np.float32), shown)
    assert (ends[0, 0] == ends[0, 1]).all()
    assert (ends[0, 2] == ends[0, 3]).all()
    assert ends[0, 2].sum() > 600 > 60 > ends[0, 0].sum()
    constant = ColorRange.of(np.full(7, 0.25, np.float32))
    assert constant.near > constant.far
    assert colorize(np.full((2, 2), 0.25, np.float32), constant).shape == (2, 2, 3)


def test_a_folder_and_a_video_share_one_colour_range_so_that_nothing_flickers(tmp_path):
    """The stripe at red 100 keeps its colour although every frame has another range of depths."""
    folder = tmp_path / "frames"
    folder.mkdir()
    pictures = [red(100, 100 - 30 * i, 100 + 30 * i, 10) for i in range(4)]
    for i, picture in enumerate(pictures):
        save(folder / f"{i}.png", picture)
    film = save_video(tmp_path / "film.avi", pictures, rate=12.0)
    summary = predict([folder, film], tmp_path / "out", kinds=("color",), batch_size=3)
    assert summary["images"] == 8
    names = [f"{i}_color.png" for i in range(4)] + [f"film/{i:06d}_color.png" for i in range(4)]
    colors = [np.asarray(Image.open(tmp_path / "out" / name)).astype(int) for name in names]
    for picture in colors:
        np.testing.assert_allclose(picture[16, 8], colors[0][16, 8], atol=6)  # JPEG inside the video costs a few levels
    assert np.abs(colors[0][16, 24] - colors[3][16, 24]).max() > 60  # the stripe that moves does change

    video = cv2.VideoCapture(str(tmp_path / "out" / "film_color.mp4"))
    frames = [video.read()[1] for _ in range(4)]
    assert not video.read()[0]
    assert video.get(cv2.CAP_PROP_FPS) == 12.0
    for frame, picture in zip(frames, colors[4:], strict=True):
        assert np.abs(frame[..., ::-1].astype(int) - picture)[4:-4, 4:12].mean() < 12


def test_depth_has_the_size_of_each_picture_and_batches_may_mix_them(tmp_path):
    sizes = [(32, 64), (50, 30), (17, 201)]
    paths = [save(tmp_path / f"{i}.jpg", np.full((*size, 3), 120, np.uint8)) for i, size in enumerate(sizes)]
    predict(paths, tmp_path / "out", kinds=("npz", "color"), batch_size=2)
    for i, size in enumerate(sizes):
        with np.load(tmp_path / "out" / f"{i}_depth.npz", allow_pickle=False) as arrays:
            assert arrays["depth"].shape == size
        with Image.open(tmp_path / "out" / f"{i}_color.png") as colors:
            assert colors.size == size[::-1]


def test_results_are_never_overwritten_silently(tmp_path):
    image = save(tmp_path / "a.png", red(80))
    predict([image], tmp_path / "out")
    before = (tmp_path / "out" / "a_depth.png").read_bytes()
    save(image, red(160))
    with pytest.raises(UserError, match="already holds files: give another --output, or --overwrite"):
        predict([image], tmp_path / "out")
    assert (tmp_path / "out" / "a_depth.png").read_bytes() == before
    predict([image], tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "a_depth.png").read_bytes() != before


def test_folders_with_equal_names_keep_their_structure(tmp_path):
    for i, place in enumerate(("rig/cam0/data", "rig/cam1/data")):
        (tmp_path / place).mkdir(parents=True)
        save(tmp_path / place / "0.png", red(50 + 100 * i))
    inputs = [tmp_path / "rig/cam0/data", tmp_path / "rig/cam1/data"]
    assert predict(inputs, tmp_path / "out", kinds=("npz",))["images"] == 2
    assert written(tmp_path / "out") == {"cam0/data/0_depth.npz", "cam1/data/0_depth.npz"}
    for i in range(2):
        with np.load(tmp_path / f"out/cam{i}/data/0_depth.npz") as arrays:
            np.testing.assert_allclose(arrays["depth"], 1 / ((50 + 100 * i) / 255 + 0.01), rtol=1e-5)


def test_files_of_one_name_are_told_apart(tmp_path):
    """The picture of a film beside it needs no other name, two formats of one picture do."""
    inputs = [save(tmp_path / "film.png", red(80)), save_video(tmp_path / "film.avi", [red(80)] * 2)]
    predict(inputs, tmp_path / "out", kinds=("npz",))
    names = {"film_depth.npz", "film/000000_depth.npz", "film/000001_depth.npz"}
    assert written(tmp_path / "out") == names
    predict([inputs[0], save(tmp_path / "film.bmp", red(80))], tmp_path / "out2", kinds=("npz",))
    assert written(tmp_path / "out2") == {"film.png_depth.npz", "film.bmp_depth.npz"}


def test_a_run_into_its_own_folder_never_predicts_its_own_pictures(tmp_path, caplog):
    folder = tmp_path / "in"
    (folder / "cam0").mkdir(parents=True)
    (folder / "cam1").mkdir()
    for place in ("cam0/0.png", "cam0/0_color_depth.png", "cam1/0.png"):
        save(folder / place, red(80))
    save_video(folder / "cam0" / "film.avi", [red(80)] * 2)
    inputs = [folder / "cam0", folder / "cam1"]
    first = predict(inputs, folder, overwrite=True)
    files = written(folder)
    for again in (inputs, sorted(folder.glob("*/*.png"))):
        caplog.clear()
        second = predict(again, folder, overwrite=True)
        assert second["images"] == first["images"] - 2 * (again is not inputs)  # the film was not named
        assert written(folder) == files
        assert "are results of an earlier run" in caplog.text


def test_the_binary_predicts_and_exits_with_two_where_something_was_bad(tmp_path):
    config = tiny_config()
    config.image_size = (64, 64)
    save_untrained(config, tmp_path / "run")
    save(tmp_path / "street.png", red(80))
    command = [sys.executable, "-m", "robustdepth.predict", f"--checkpoint={tmp_path / 'run'}"]
    command += [f"--output={tmp_path / 'out'}", str(tmp_path / "street.png"), str(tmp_path / "gone.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "step 5): metric scale" in done.stdout
    assert "1 images done" in done.stdout
    assert f"{tmp_path / 'gone.png'} does not exist" in done.stderr
    assert "Traceback" not in done.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    endings = ("color.png", "depth.npz", "depth.png")
    assert written == {"predictions.json"} | {f"street_{ending}" for ending in endings}
