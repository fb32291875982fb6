"""Folders in Hugging Face's form: they load as the network they were written from; the card has its numbers."""

import json

import numpy as np
import pytest
import safetensors.numpy

import robustdepth
from robustdepth.errors import UserError
from robustdepth.prediction.hub import write_folder
from tests.checkpoints import save_untrained
from tests.tiny import tiny_config

REPORT = {
    "protocols": {
        "world": {
            "count": 100,
            "alignment": "median",
            "metrics": {"abs_rel": 0.1234, "rmse": 4.5, "delta1": 0.9},
            "baselines": {"constant": {"abs_rel": 0.4}, "train_median": {"abs_rel": 0.352}},
        },
        "odometry": {"metrics": {"ate": 1.0}},
    }
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_untrained(tiny_config(), folder, step=7)
    return str(folder)


def test_a_folder_loads_as_the_network_it_was_written_from(run, tmp_path):
    said = write_folder(run, tmp_path / "net")
    assert "step 7" in said
    assert {path.name for path in (tmp_path / "net").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    before, after = robustdepth.load(run)(image), robustdepth.load(str(tmp_path / "net"))(image)
    np.testing.assert_allclose(after.depth, before.depth, rtol=1e-3)
    assert after.scale == before.scale
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert config["config"]["model"]["encoder"] == "resnet_tiny"
    assert config["step"] == 7
    assert safetensors.numpy.load_file(tmp_path / "net" / "model.safetensors")


def test_the_card_has_what_was_measured(run, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    write_folder(run, tmp_path / "net", str(tmp_path / "report.json"))
    card = (tmp_path / "net" / "README.md").read_text()
    front = card.split("---\n")[1]
    assert "library_name: robustdepth" in front
    assert "pipeline_tag: depth-estimation" in front
    assert "| world | 100 | median | 0.123 | 4.500 | 0.900 | 0.352 |" in card
    assert "odometry" not in card


@pytest.mark.parametrize("text", ["no json", "[]", '{"protocols": {"world": {"metrics": {"abs_rel": 1}}}}'])
def test_what_is_no_report_is_refused_and_leaves_nothing(run, tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(UserError, match=r"report\.json is no report\.json of an evaluation of depth"):
        write_folder(run, tmp_path / "net", str(tmp_path / "report.json"))
    assert not (tmp_path / "net").exists()


def test_a_folder_with_a_damaged_file_is_refused(run, tmp_path):
    write_folder(run, tmp_path / "net")
    file = tmp_path / "net" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        robustdepth.load(str(tmp_path / "net"))
