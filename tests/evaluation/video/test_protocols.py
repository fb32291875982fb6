"""The video protocols from recordings and rendered worlds to results and the report."""

import dataclasses
import json

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation.predictors import NetworkPredictor
from robustdepth.evaluation.run import Options, run_evaluation
from robustdepth.evaluation.video import protocols, sources
from robustdepth.evaluation.video.protocols import evaluate_videos, open_videos
from robustdepth.evaluation.video.sources import Video, WorldVideos
from robustdepth.evaluation.video.temporal import covisible, temporal_alignment_error
from robustdepth.runtime import distributed
from robustdepth.types import EvalSample
from tests.evaluation.video.test_temporal import CAMERA, SIZE, moved_by, texture
from tests.evaluation_fakes import FakeModel
from tests.recordings import SIZE as RECORDED
from tests.recordings import write_clip, write_kitti_odometry

MEDIAN_MAP = np.linspace(10, 40, 32, dtype=np.float32).reshape(4, 8)


@dataclasses.dataclass
class Replay:
    """A predictor that hands out inverse depth maps by the index of the sample."""

    maps: np.ndarray
    scale: str = "relative"
    batch_size: int = 4

    def prepare(self, index, sample):
        return self.maps[index]

    def infer(self, prepared):
        assert len(prepared) <= self.batch_size
        return list(prepared)

    def describe(self):
        return {}


def wall_video(moving: np.ndarray | None = None) -> Video:
    """Five frames of a staircase of walls that come nearer by 1 m a frame, behind them sky."""
    steps = np.repeat([100.0, 30.0, 20.0, 12.0], SIZE[0] // 4)[:, None] - np.zeros(SIZE)
    truth = np.stack([np.where(steps == 100, steps, steps - time) for time in range(5)]).astype(np.float32)
    image = np.zeros((*SIZE, 3), np.uint8)
    camera = CAMERA.replace(center=np.array([31.37, 15.21], np.float32))  # no point lands right between two pixels
    frames = [EvalSample(image, depth, camera, f"frame {i}") for i, depth in enumerate(truth)]
    motions = np.stack([moved_by(z=-1.0)] * 4)
    return Video("walls", "walls", camera, frames, motions=motions, truth=truth, moving=moving)


def test_video_world_aligns_once_a_video_and_states_the_floor():
    video = wall_video(moving=np.zeros((5, *SIZE), bool))
    opened = protocols.VideoSet("video_world", "walls", [[video]], 5)
    perfect = 3 / video.truth + np.float32(0.2)  # a scale and a shift away
    result = evaluate_videos(opened, Replay(perfect), MEDIAN_MAP)
    assert (result.name, result.alignment) == ("video_world", "least_squares, one per video")
    assert list(result.metrics) == ["tae", "tae_seen", "tae_truth", "abs_rel"]
    assert result.metrics["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert result.metrics["tae"] == pytest.approx(result.metrics["tae_truth"], abs=1e-5)
    assert result.metrics["tae_seen"] == pytest.approx(0, abs=1e-5)
    constant = result.baselines["constant"]
    level = 1 / np.mean(1 / video.truth[video.truth < 80])
    # Forward level - 1 is compared with level; back the upper and lower edges see level + 1: both are 1 / level.
    assert constant["tae"] == pytest.approx(1 / level, rel=1e-5)
    assert constant["abs_rel"] > 0.2

    unsteady = perfect * np.float32([[[1]], [[1.2]], [[1]], [[1.2]], [[1]]])
    worse = evaluate_videos(opened, Replay(unsteady), MEDIAN_MAP)
    assert worse.metrics["tae_seen"] > 0.1
    aligned = evaluate_videos(opened, Replay(1 / video.truth), MEDIAN_MAP, alignment="none")
    assert aligned.name == "video_world[alignment=none]"
    assert aligned.metrics["abs_rel"] == pytest.approx(0, abs=1e-6)


def test_the_rendered_world_is_in_the_order_of_time():
    rendered = WorldVideos((64, 208), count=8)
    rendered.chunk = 4
    videos = [video for chunk in rendered for video in chunk]
    assert [video.name for video in videos] == [f"world_0000{i}" for i in range(8)]
    errors = []
    for video in videos:
        assert [frame.image.shape for frame in video.frames] == [(64, 208, 3)] * 3
        assert (video.motions[:, 2, 3] < 0.05).all()  # cars drive ahead or stand, so points come nearer
        truth = video.truth.astype(np.float64)
        static = (truth < 80) & ~video.moving
        seen = covisible(truth, video.camera, video.motions, static)
        assert seen.mean() > 0.3
        right = temporal_alignment_error(truth, video.camera, video.motions, static)
        backwards = temporal_alignment_error(truth[::-1], video.camera, video.motions, static[::-1])
        errors.append(right)
        assert backwards > 2 * right or np.abs(video.motions[:, 2, 3]).min() < 0.1  # a camera may stand
    assert np.median(errors) < 0.05  # more where the camera drives two metres a frame between leaves


@dataclasses.dataclass(frozen=True)
class DrivingModel(FakeModel):
    """Sees a wall 5 units ahead in every image, and itself driving half a unit per frame."""

    def relative_pose(self, first, second):
        return np.tile(moved_by(z=-0.5), (len(first), 1, 1)).astype(np.float32)

    def inverse_depth(self, images):
        return jnp.full(images.shape[:3], 0.2)


def test_video_odometry_takes_metres_from_the_path(tmp_path, monkeypatch):
    write_kitti_odometry(tmp_path, "03", cameras=[2], count=7)  # one metre ahead per frame
    monkeypatch.setattr(sources, "PAIRS", 4)
    opened = open_videos("video_odometry", data_root=str(tmp_path), sequence="03")
    assert [(video.first, len(video.frames)) for (video,) in opened.groups] == [(0, 5), (4, 3)]
    assert opened.title == "KITTI odometry 03, true poses, 7 frames"

    result = evaluate_videos(opened, NetworkPredictor(DrivingModel()), MEDIAN_MAP)
    assert (result.name, result.alignment) == ("video_odometry", "path, one per video")
    assert [row["name"] for row in result.per_image] == ["03 000000", "03 000004"]
    # The wall is at 10 m in every frame: 9 against 10, and 11 against 10 on the way back.
    assert result.metrics == {"tae": pytest.approx(0.1, rel=1e-5)}
    assert set(result.baselines) == {"constant", "train_median"}

    nearing = np.stack([np.full(RECORDED, 1 / (40.0 - i), np.float32) for i in range(7)])
    perfect = evaluate_videos(opened, Replay(nearing), MEDIAN_MAP, alignment="none")
    assert perfect.name == "video_odometry[alignment=none]"
    assert perfect.metrics["tae"] == pytest.approx(0, abs=1e-6)
    metric = evaluate_videos(opened, Replay(nearing, scale="metric"), MEDIAN_MAP)
    assert (metric.name, metric.metrics) == ("video_odometry", perfect.metrics)


def test_flicker_of_own_footage_by_clip(tmp_path):
    for name in ("morning", "night"):
        write_clip(tmp_path / name, count=3)
    for folder in ("morning", "night"):
        for number in (8, 9, 10):
            cv2.imwrite(str(tmp_path / folder / f"frame_{number}.png"), texture()[:48])
    opened = open_videos("flicker", data_root=str(tmp_path))
    assert (len(opened.groups), opened.frames) == (2, 6)
    factors = [1, 1, 1, 1.1, 1 / 1.1, 1.1]  # steady, then pulsing
    maps = np.stack([np.full(RECORDED, 0.1 * factor, np.float32) for factor in factors])
    result = evaluate_videos(opened, Replay(maps), MEDIAN_MAP)
    steady, pulsing = result.per_image
    assert (steady["name"], pulsing["name"]) == ("morning", "night")
    assert (steady["flicker"], steady["scale_flicker"]) == (0, 0)
    assert pulsing["flicker"] == pytest.approx(0, abs=1e-6)
    assert pulsing["scale_flicker"] == pytest.approx(2 * np.log(1.1), rel=1e-5)
    assert result.metrics["scale_flicker"] == pytest.approx(np.log(1.1), rel=1e-5)
    assert result.baselines["constant"]["flicker"] == 0
    assert result.as_json()["below_better_baseline"] is None  # constant depth cannot be beaten
    chosen = open_videos("flicker", data_root=str(tmp_path), clips=["night"])
    assert [video.recording for (video,) in chosen.groups] == ["night"]


def test_footage_that_differs_between_processes_is_refused(tmp_path, monkeypatch):
    """Of one video each, which would not tell."""
    write_clip(tmp_path / "clip", count=3)
    opened = open_videos("flicker", data_root=str(tmp_path))
    monkeypatch.setattr(distributed, "gather", lambda seen: [seen, [seen[0], 2]])  # another process's answer
    with pytest.raises(UserError, match=r"process 0 has found 3 items, process 1 2\. Give all the same recordings"):
        evaluate_videos(opened, Replay(np.ones((3, *RECORDED), np.float32)), MEDIAN_MAP)


def test_a_clip_of_cuts_cannot_be_judged(tmp_path):
    write_clip(tmp_path / "cut", count=2)
    for number, seed in ((8, 1), (9, 2)):
        noise = np.random.default_rng(seed).integers(0, 256, (*RECORDED, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "cut" / f"frame_{number}.png"), noise)
    opened = open_videos("flicker", data_root=str(tmp_path))
    with pytest.raises(UserError, match="can follow nothing between any two frames"):
        evaluate_videos(opened, Replay(np.full((2, *RECORDED), 0.1, np.float32)), MEDIAN_MAP)


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        ("video_world", "video_world renders at the model's own size"),
        ("video_odometry", r"video_odometry needs --data_root=FOLDER .* and --sequence=NN"),
        ("flicker", "flicker needs --data_root=FOLDER or VIDEO"),
    ],
)
def test_what_a_protocol_needs(protocol, sentence):
    with pytest.raises(UserError, match=sentence):
        open_videos(protocol)


def test_refused_predictions_and_alignments():
    video = wall_video()
    odometry = protocols.VideoSet("video_odometry", "", [[dataclasses.replace(video, truth=None)]], 5)
    good = 1 / video.truth
    with pytest.raises(UserError, match="cannot scale these predictions: give --alignment=none"):
        evaluate_videos(odometry, Replay(good), MEDIAN_MAP)
    with pytest.raises(UserError, match="knows no true depth for --alignment=median"):
        evaluate_videos(odometry, Replay(good), MEDIAN_MAP, alignment="median")
    with pytest.raises(UserError, match="walls is not positive and finite"):
        evaluate_videos(odometry, Replay(-good), MEDIAN_MAP, alignment="none")


def test_from_options_to_the_report(tmp_path, capsys):
    """The command's way: pulsing predictions of own footage in files, and what the report says about them."""
    write_clip(tmp_path / "footage", count=3)
    for number in (8, 9, 10):
        cv2.imwrite(str(tmp_path / "footage" / f"frame_{number}.png"), texture()[:48])
    np.savez(tmp_path / "median.npz", depth=MEDIAN_MAP)
    np.save(tmp_path / "depth.npy", np.stack([np.full(RECORDED, depth, np.float32) for depth in (10, 11, 10)]))
    options = Options(
        ["flicker"],
        data_root=str(tmp_path / "footage"),
        predictions=str(tmp_path / "depth.npy"),
        train_median=str(tmp_path / "median.npz"),
    )
    (result,) = run_evaluation("", str(tmp_path / "out"), options)
    assert result.metrics["scale_flicker"] == pytest.approx(np.log(1.1), rel=1e-5)
    printed = capsys.readouterr().out
    assert "flicker: own footage" in printed
    assert "1 clips, alignment none" in printed
    assert "flicker of the better trivial baseline is 0" in printed
    assert "flicker" in json.loads((tmp_path / "out" / "report.json").read_text())["protocols"]
