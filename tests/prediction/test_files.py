"""Whole prediction runs on files, with a model of known depth: what is written, and what bad input costs."""

import json
import pathlib
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from robustdepth.errors import UserError
from robustdepth.imaging.colormap import ColorRange, colorize
from robustdepth.prediction import run
from robustdepth.prediction.prediction import encode_depth
from robustdepth.prediction.predictor import Predictor
from robustdepth.prediction.video import VideoWriter, writable_rate
from tests.checkpoints import save_untrained
from tests.made_up_model import red_model
from tests.prediction.test_pointcloud import read_ply
from tests.tiny import tiny_config

SIZE = (32, 64)  # of the made-up model, and of most pictures here: then nothing is resized


@pytest.fixture(autouse=True)
def made_up_network(monkeypatch):
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Predictor(red_model(SIZE)))


def red(*columns: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture of vertical stripes with these red values, green 40 and blue 90."""
    image = np.full((*size, 3), (0, 40, 90), np.uint8)
    image[..., 0] = np.repeat(columns, size[1] // len(columns))
    return image


def save(path: pathlib.Path, image: np.ndarray) -> pathlib.Path:
    Image.fromarray(image).save(path)
    return path


def save_video(path: pathlib.Path, frames: list[np.ndarray], rate: float = 12.0) -> pathlib.Path:
    """Motion JPEG in AVI: close to lossless for pictures of few colours."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, frames[0].shape[1::-1])
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def predict(inputs, output: pathlib.Path, **options) -> dict:
    """Runs a prediction and returns its summary."""
    run.predict_files("made-up", [str(path) for path in inputs], str(output), **options)
    return json.loads((output / "predictions.json").read_text())


def test_every_file_of_an_image_holds_the_known_depth(tmp_path, capsys):
    image = red(25, 51, 102, 204)
    summary = predict([save(tmp_path / "street.png", image)], tmp_path / "out", field_of_view=90.0)
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


def test_an_assumed_field_of_view_and_a_relative_scale_are_stated(tmp_path, capsys, monkeypatch):
    model = red_model(SIZE, views=("previous", "next"))
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Predictor(model))
    summary = predict([save(tmp_path / "a.png", red(9))], tmp_path / "out")
    said = capsys.readouterr().out
    assert "relative scale, depth right up to one unknown factor" in said
    assert "ASSUMED horizontal field of view of 70 degrees" in said
    assert summary["scale"] == "relative"
    assert summary["camera"].startswith("ASSUMED")


def test_the_focal_length_in_exif_makes_metres(tmp_path, capsys, monkeypatch):
    """Of a 36x24 mm film; the model's metres are those of a camera whose image is as wide as its focal length."""
    model = red_model(SIZE)
    model.config.model.canonical_focal = 1.0
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Predictor(model))
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.FocalLengthIn35mmFilm: 28}
    Image.fromarray(np.full((240, 360, 3), (200, 0, 0), np.uint8)).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(np.full((240, 360, 3), (200, 0, 0), np.uint8)).save(tmp_path / "b.png")
    predict([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out")
    found = {name: np.load(tmp_path / "out" / f"{name}_depth.npz") for name in "ab"}
    np.testing.assert_allclose(found["a"]["focal"], 360 * 28 / 36, rtol=1e-6)  # 3:2, as the film: the width's ratio
    np.testing.assert_allclose(found["b"]["focal"], 180 / np.tan(np.radians(35)), rtol=1e-6)
    ratio = found["a"]["depth"].mean() / found["b"]["depth"].mean()
    np.testing.assert_allclose(ratio, found["a"]["focal"][0] / found["b"]["focal"][0], rtol=1e-5)
    assert "camera: ASSUMED" in capsys.readouterr().out


def test_16_bit_depth_saturates_and_never_means_unknown():
    depth = np.array([[1e-6, 1.0, 255.99, 256.0, 1e9]], np.float32)
    assert encode_depth(depth).tolist() == [[1, 256, 65533, 65535, 65535]]


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


def test_bad_inputs_are_named_and_the_others_are_done(tmp_path):
    good = save(tmp_path / "good.png", red(80))
    cut = tmp_path / "cut.png"
    cut.write_bytes(
        save(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)).read_bytes()[:900]
    )
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "broken.mp4").write_bytes(b"not a video" * 100)
    (tmp_path / "empty").mkdir()
    bad = [tmp_path / name for name in ("cut.png", "text.png", "broken.mp4", "empty", "nowhere.png")]
    with pytest.raises(UserError, match="5 of the inputs could not be read, all else is done") as caught:
        predict([*bad, good], tmp_path / "out")
    for path in bad:
        assert str(path) in str(caught.value)
    assert (tmp_path / "out" / "good_depth.npz").is_file()
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["problems"]) == 5


def test_a_video_that_ends_early_keeps_its_frames_and_is_named(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (*SIZE, 3), np.uint8) for _ in range(40)]
    film = save_video(tmp_path / "film.avi", frames)
    content = bytearray(film.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 3] = bytes(len(content) // 3)  # a hole, while the header stays whole
    film.write_bytes(content)
    with pytest.raises(UserError, match=r"film.avi could be decoded for only \d+ of its 40 frames"):
        predict([film], tmp_path / "out", kinds=("color", "npz"))
    assert (tmp_path / "out" / "film" / "000000_depth.npz").is_file()


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    content = bytearray(save(tmp_path / "small.png", red(80)).read_bytes())
    content[16:24] = struct.pack(">II", 50_000, 50_000)  # the header's width and height
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(content)
    with pytest.raises(UserError, match=r"bomb.png: .*2500000000 pixels"):
        predict([bomb], tmp_path / "out")


def test_intrinsics_of_another_size_are_refused_and_those_of_this_size_used(tmp_path):
    camera = {"width": 64, "height": 32, "fx": 50.0, "fy": 60.0, "cx": 30.0, "cy": 12.0}
    (tmp_path / "camera.json").write_text(json.dumps(camera))
    fits, other = save(tmp_path / "fits.png", red(80)), save(tmp_path / "other.png", red(80, size=(48, 64)))
    options = {"camera_file": str(tmp_path / "camera.json")}
    with pytest.raises(UserError, match="camera is of images 64x32, but this image is 64x48"):
        predict([fits, other], tmp_path / "out", **options)
    with np.load(tmp_path / "out" / "fits_depth.npz", allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["focal"], [50, 60])
    assert not (tmp_path / "out" / "other_depth.npz").exists()
    with pytest.raises(UserError, match="exclude each other"):
        predict([fits], tmp_path / "out2", field_of_view=60.0, **options)


def test_a_folder_of_cameras_has_one_for_each_image_or_one_for_all(tmp_path):
    camera = {"width": 64, "height": 32, "fy": 60.0, "cx": 30.0, "cy": 12.0}
    images = [save(tmp_path / f"{name}.png", red(80)) for name in ("a", "b", "c")]
    (tmp_path / "a.json").write_text(json.dumps(camera | {"fx": 50.0}))
    (tmp_path / "b.json").write_text(json.dumps(camera | {"fx": 70.0}))
    with pytest.raises(UserError, match=r"cannot read .*camera.json"):  # of c
        predict(images, tmp_path / "out", camera_file=str(tmp_path))
    (tmp_path / "camera.json").write_text(json.dumps(camera | {"fx": 90.0}))
    predict(images, tmp_path / "out", camera_file=str(tmp_path), overwrite=True)
    for name, fx in (("a", 50), ("b", 70), ("c", 90)):
        with np.load(tmp_path / "out" / f"{name}_depth.npz", allow_pickle=False) as arrays:
            np.testing.assert_allclose(arrays["focal"], [fx, 60])


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


@pytest.mark.parametrize(
    ("inputs", "options", "sentence"),
    [
        (["empty"], {}, "holds neither images nor videos"),
        (["nowhere"], {}, "does not exist"),
        (["a.png"], {"kinds": ("png", "plly")}, "--outputs=plly is unknown: did you mean ply"),
        (["a.png"], {"batch_size": 0}, "--batch_size=0 must be 1 or more"),
        (["a.png"], {"field_of_view": 200.0}, "between 0 and 180"),
        (["a.png"], {"camera_file": "nowhere.json"}, r"cannot read .*nowhere.json"),
    ],
)
def test_what_keeps_a_run_from_starting_is_one_sentence_and_writes_nothing(tmp_path, inputs, options, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "sub").mkdir()
    save(tmp_path / "a.png", red(80))
    save(tmp_path / "sub" / "a.jpg", red(80))
    with pytest.raises(UserError, match=sentence):
        predict([tmp_path / name for name in inputs], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def written(folder: pathlib.Path) -> set[str]:
    """Files below a folder, but for the summary."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"predictions.json"}


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


@pytest.mark.parametrize("rate", [66.667, 196.263, 29.97002997, 23.976, 0.5, 500.0])
def test_films_keep_their_rate(tmp_path, rate):
    film = save_video(tmp_path / "film.avi", [red(80), red(120), red(160)], rate)
    predict([film], tmp_path / "out", kinds=("color",))
    video = cv2.VideoCapture(str(tmp_path / "out" / "film_color.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(rate, rel=1e-4)
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_rates_that_no_film_has_are_brought_into_range():
    assert [writable_rate(rate) for rate in (1e-9, 90_000.0, 1e12)] == [0.1, 65_535.0, 65_535.0]


def test_an_infinite_rate_is_refused_at_once(tmp_path, monkeypatch):
    opened = cv2.VideoCapture

    class Hurried:
        """A video whose header gives an impossible rate."""

        def __init__(self, path: str):
            self.isOpened = opened(path).isOpened

        def get(self, name: int) -> float:
            return float("inf") if name == cv2.CAP_PROP_FPS else 32.0

    film = save_video(tmp_path / "film.avi", [red(80)] * 3)
    monkeypatch.setattr(cv2, "VideoCapture", Hurried)
    with pytest.raises(UserError, match=r"film\.avi says that it has inf frames per second: convert it"):
        predict([film], tmp_path / "out")
    assert not (tmp_path / "out" / "film").exists()
    with pytest.raises(UserError, match="cannot have inf frames"):
        VideoWriter(tmp_path / "film.mp4", float("inf"), SIZE)


def test_an_image_named_twice_is_predicted_once(tmp_path):
    image = save(tmp_path / "a.png", red(80))
    assert predict([image, tmp_path, image], tmp_path / "out", kinds=("png",))["images"] == 1


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
    endings = ("color.png", "depth.npz", "depth.png", "points.ply")
    assert written == {"predictions.json"} | {f"street_{ending}" for ending in endings}
