"""What is written beyond the usual: PNGs of relative depth, picture and colours side by side, thinned points."""

import cv2
import numpy as np
import pytest
from PIL import Image

from robustdepth.prediction.predictor import Predictor
from tests.made_up_model import red_model
from tests.prediction.test_pointcloud import read_ply
from tests.prediction_files import SIZE, predict, red, save, save_video

pytestmark = pytest.mark.usefixtures("made_up_network")


def test_pngs_of_relative_depth_share_the_factor_that_uses_all_their_bits(tmp_path, monkeypatch):
    """Depth of at most 1/0.51 in both pictures: 2^15 values per unit, where 256 would leave 502 values for all."""
    model = red_model(SIZE, views=("previous", "next"))
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda path: Predictor(model))
    inputs = [save(tmp_path / "near.png", red(255, 254)), save(tmp_path / "far.png", red(128, 200))]
    summary = predict(inputs, tmp_path / "out", kinds=("png", "npz"))
    assert summary["png_values_per_unit"] == 2**15
    for name in ("near", "far"):
        with Image.open(tmp_path / "out" / f"{name}_depth.png") as png:
            assert float(png.info["values_per_unit"]) == 2**15
            found = np.asarray(png) / 2**15
        np.testing.assert_allclose(found, np.load(tmp_path / "out" / f"{name}_depth.npz")["depth"], atol=0.51 / 2**15)


@pytest.mark.parametrize(("shape", "axis"), [((32, 48), 1), ((16, 64), 0)])
def test_picture_and_colours_stand_beside_each_other(tmp_path, shape, axis):
    pictures = [red(200, 20, size=shape), red(20, 200, size=shape)]
    inputs = [save(tmp_path / "a.png", pictures[0]), save_video(tmp_path / "film.avi", pictures)]
    predict(inputs, tmp_path / "out", kinds=("side", "color"))
    assert {path.name for path in (tmp_path / "out").glob("*.*")} == {
        "a_side.jpg", "a_color.png", "film_color.mp4", "film_side.mp4", "predictions.json"
    }  # fmt: skip
    with Image.open(tmp_path / "out" / "a_side.jpg") as picture:
        left, right = np.split(np.asarray(picture).astype(int), 2, axis=axis)
    with Image.open(tmp_path / "out" / "a_color.png") as picture:
        colors = np.asarray(picture).astype(int)
    assert np.abs(left - pictures[0]).mean() < 10  # JPEG blurs the stripe's border
    assert np.abs(right - colors).mean() < 10
    film = cv2.VideoCapture(str(tmp_path / "out" / "film_side.mp4"))
    frames = [film.read()[1] for _ in range(2)]
    assert not film.read()[0]
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.abs(np.split(frame[..., ::-1].astype(int), 2, axis=axis)[0] - picture).mean() < 12


def test_points_are_thinned_and_cut_where_the_option_says(tmp_path):
    """Two stripes of depth 1.3 and 4.8: two columns are in the gap, and every third one is taken."""
    image = save(tmp_path / "a.png", red(200, 50))
    predict([image], tmp_path / "all", kinds=("ply",), edge=0.0)
    predict([image], tmp_path / "cut", kinds=("ply",))
    predict([image], tmp_path / "thin", kinds=("ply",), thin=3)
    counts = {name: len(read_ply(tmp_path / name / "a_points.ply")[1]) for name in ("all", "cut", "thin")}
    assert counts == {"all": 32 * 64, "cut": 32 * 62, "thin": 11 * 22}
