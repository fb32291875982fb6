"""What prediction runs take: which inputs they refuse, by which sentence, and which camera an image gets."""

import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from robustdepth.errors import UserError
from robustdepth.prediction.predictor import Predictor
from tests.made_up_model import red_model
from tests.prediction_files import SIZE, predict, red, save

pytestmark = pytest.mark.usefixtures("made_up_network")


def test_an_assumed_field_of_view_and_a_relative_scale_are_stated(tmp_path, capsys, monkeypatch):
    model = red_model(SIZE, views=("previous", "next"))
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Predictor(model))
    summary = predict([save(tmp_path / "a.png", red(9))], tmp_path / "out", kinds=("ply",))
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
    said = capsys.readouterr().out
    assert "metric scale, depth in metres where the image's camera is known" in said
    assert "camera: ASSUMED" in said
    assert "camera by EXIF: 28 mm of 35 mm film, 65 degrees wide (1 images)" in said


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
    with pytest.raises(UserError, match=r"camera is of images 64x32, but .*other\.png is 64x48"):
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


@pytest.mark.parametrize(
    ("inputs", "options", "sentence"),
    [
        (["empty"], {}, "holds neither images nor videos"),
        (["nowhere"], {}, "does not exist"),
        (["a.png"], {"kinds": ("png", "plly")}, "--outputs=plly is unknown: did you mean ply"),
        (["a.png"], {"kinds": ("ply",), "thin": 0}, "--thin=0 must be 1 or more"),
        (["a.png"], {"kinds": ("ply",), "edge": -0.1}, "--edge=-0.1 must not be negative"),
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


def test_an_image_named_twice_is_predicted_once(tmp_path):
    image = save(tmp_path / "a.png", red(80))
    assert predict([image, tmp_path, image], tmp_path / "out", kinds=("png",))["images"] == 1


def test_names_that_leave_no_room_for_an_ending_cost_no_other_input(tmp_path):
    good, fits = save(tmp_path / "good.png", red(80)), save(tmp_path / f"{'f' * 243}.png", red(80))
    long = save(tmp_path / f"{'x' * 244}.png", red(80))
    with pytest.raises(UserError, match=r"1 of the inputs .*\n.*x{244}\.png has too long a name .* to 243 bytes"):
        predict([long, good, fits], tmp_path / "out", kinds=("png", "npz", "color", "ply"))
    assert (tmp_path / "out" / "good_depth.npz").is_file()
    assert (tmp_path / "out" / f"{'f' * 243}_points.ply").is_file()
    with pytest.raises(UserError, match="too long a name"):
        predict([long], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_pipe_is_told_and_not_waited_for(tmp_path):
    good = save(tmp_path / "good.png", red(80))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match=r"pipe\.png is no file: give images"):
        predict([tmp_path / "pipe.png", good], tmp_path / "out")
    assert (tmp_path / "out" / "good_depth.npz").is_file()
