"""nuScenes from its tables: projection through moving frames, conditions, lists, half-unpacked copies."""

import json

import numpy as np
import pytest

from robustdepth.data.benchmarks import nuscenes
from robustdepth.data.benchmarks.datasets import open_condition
from robustdepth.errors import UserError
from tests.adverse_recordings import NUSCENES_INTRINSIC, NUSCENES_SIZE, write_nuscenes

DESCRIPTIONS = {
    "scene-0003": "Parking lot, pedestrians",
    "scene-0012": "Rain, many cars",
    "scene-1059": "Night, bus",
    "scene-1060": "After rain, NIGHT",
}


def in_scanner(u: float, v: float, depth: float) -> list[float]:
    """The point that the camera sees at (u, v) and `depth`, in the scanner's frame, worked out by hand.

    The camera stands 1.7 m ahead of the car's origin and 1.5 m up, the scanner 0.9 m ahead and 1.8 m up; the car drove
    0.5 m between them. The scanner's axes point right, ahead and up, the camera's right, down and ahead.
    """
    (fx, _, cx), (_, fy, cy), _ = NUSCENES_INTRINSIC
    right, down = (u - cx) / fx * depth, (v - cy) / fy * depth
    return [right, depth + 1.7 + 0.5 - 0.9, -down + 1.5 - 1.8]


POINTS = np.array([
    in_scanner(40.2, 60.9, 10.0),  # pixel (40, 60)
    in_scanner(100.3, 20.4, 33.0),  # pixel (100, 20)
    in_scanner(100.8, 20.9, 50.0),  # the same pixel, later in the scan
    in_scanner(80, 45, 0.9),  # on the car itself
    in_scanner(80, 45, -20.0),  # behind
    in_scanner(200, 45, 20.0),  # beside the image
    in_scanner(0.5, 45, 20.0),  # on its edge
    in_scanner(80, 89.2, 20.0),
])  # fmt: skip


@pytest.fixture
def root(tmp_path):
    write_nuscenes(tmp_path, POINTS, DESCRIPTIONS)
    return tmp_path


def test_scans_are_projected_through_both_poses_of_the_car(root):
    sample = open_condition("nuscenes_day_clear", root)[0]
    wanted = np.zeros(NUSCENES_SIZE)
    wanted[60, 40], wanted[20, 100] = 10, 50
    np.testing.assert_allclose(sample.depth, wanted, atol=1e-4)
    assert sample.image.shape == (*NUSCENES_SIZE, 3)
    np.testing.assert_allclose(sample.camera.focal, (126, 127))
    assert sample.name == "scene-0003 n015-2018__CAM_FRONT__00030000"


def test_conditions_follow_the_descriptions_of_the_validation_scenes(root):
    found = {
        name: sorted({sample.name.split()[0] for sample in open_condition(f"nuscenes_{name}", root)})
        for name in ("day_clear", "day_rain", "night")
    }
    adverse = {"day_rain": ["scene-0012"], "night": ["scene-1059", "scene-1060"]}
    assert {name: found[name] for name in adverse} == adverse
    assert found["day_clear"] == sorted(set(nuscenes.val_scenes()) - {"scene-0012", "scene-1059", "scene-1060"})
    assert len(open_condition("nuscenes_night", root)) == 4  # two keyframes each, no sweeps


def test_the_official_validation_split():
    scenes = nuscenes.val_scenes()
    assert len(set(scenes)) == len(scenes) == 150
    assert (scenes[0], scenes[1], scenes[-1]) == ("scene-0003", "scene-0012", "scene-1073")
    assert not {"scene-0001", "scene-0061", "scene-0628", "scene-0918"} & set(scenes)


def test_published_lists_by_position_image_or_token(root, tmp_path):
    split = tmp_path / "list.txt"
    split.write_text("0\nn015-2018__CAM_FRONT__10590001\nscene-1059_0\n")  # position 0 is in the training split
    samples = open_condition("nuscenes_night_500", root, str(split))
    assert [sample.name for sample in samples] == [
        "scene-0001 n015-2018__CAM_FRONT__00010000",
        "scene-1059 n015-2018__CAM_FRONT__10590001",
        "scene-1059 n015-2018__CAM_FRONT__10590000",
    ]
    with pytest.raises(UserError, match="nuscenes_night_500 needs --split=FILE"):
        open_condition("nuscenes_night_500", root)
    split.write_text("9999\n")
    with pytest.raises(UserError, match="names '9999', which is no keyframe"):
        open_condition("nuscenes_night_500", root, str(split))
    split.write_text("0\n0\n")
    with pytest.raises(UserError, match="names '0' twice"):
        open_condition("nuscenes_night_500", root, str(split))


@pytest.mark.parametrize("chunk", [1, 7, 64, 2**20])
def test_tables_are_read_in_any_pieces(tmp_path, chunk):
    rows = [{"token": "a{", "n": [1, 2]}, {"token": "b}", "text": 'x " [{'}, {"token": "ü"}]
    path = tmp_path / "table.json"
    for text in (json.dumps(rows, indent=2, ensure_ascii=False), json.dumps(rows) + "\n"):
        path.write_text(text, encoding="utf-8")
        assert list(nuscenes.read_table(path, chunk)) == rows
        path.write_text(text[: len(text) // 2], encoding="utf-8")
        with pytest.raises(UserError, match=r"table\.json ends early"):
            list(nuscenes.read_table(path, chunk))
    path.write_text("[]")
    assert list(nuscenes.read_table(path, chunk)) == []


def test_half_unpacked_copies_are_told(root):
    image = root / "samples" / "CAM_FRONT" / "n015-2018__CAM_FRONT__10590001.jpg"
    image.unlink()
    with pytest.raises(UserError, match=r"10590001\.jpg is missing \(1 such files of 4 frames"):
        open_condition("nuscenes_night", root)
    scan = root / "samples" / "LIDAR_TOP" / "n015-2018__LIDAR_TOP__00120001.pcd.bin"
    scan.write_bytes(scan.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"00120001\.pcd\.bin: .*5 floats a point"):
        open_condition("nuscenes_day_rain", root)[1]
    scan.unlink()
    with pytest.raises(UserError, match=r"00120001\.pcd\.bin is missing"):
        open_condition("nuscenes_day_rain", root)


def test_other_versions_and_tables_are_told(root):
    tables = root / nuscenes.VERSION
    scenes = json.loads((tables / "scene.json").read_text())
    samples = json.loads((tables / "sample.json").read_text())
    for name, rows, message in (
        ("sample", samples[:-1], "lacks 1 of the 150 validation scenes, first scene-1073"),
        ("scene", scenes[3:], "tables in .* do not belong together"),
    ):
        nuscenes.read_keyframes.cache_clear()
        (tables / f"{name}.json").write_text(json.dumps(rows))
        with pytest.raises(UserError, match=message):
            open_condition("nuscenes_night", root)
    nuscenes.read_keyframes.cache_clear()
    (tables / "scene.json").unlink()
    with pytest.raises(UserError, match=r"cannot read table .*scene\.json"):
        open_condition("nuscenes_night", root)
    tables.rename(root / "v1.0-mini")
    with pytest.raises(UserError, match=r"v1\.0-trainval is missing \(.* holds v1\.0-mini\)"):
        open_condition("nuscenes_night", root)
