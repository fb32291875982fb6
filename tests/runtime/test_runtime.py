"""Configs, workdirs, logs and sharding: what must hold when a run is stopped, damaged or misconfigured."""

import json

import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from configs import base
from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime import sharding
from robustdepth.runtime.logging import METRICS_FILE, MetricWriter, duration
from robustdepth.runtime.workdir import Workdir
from tests.conftest import REPOSITORY
from tests.tiny import random_batch, tiny_config


def test_a_config_survives_the_workdir(tmp_path):
    config = tiny_config()
    configs.write(config, tmp_path)
    assert configs.flatten(configs.read(tmp_path)) == configs.flatten(config)


def test_a_config_of_an_older_version_has_its_values_where_they_are_now(tmp_path):
    (tmp_path / "config.json").write_text((REPOSITORY / "tests" / "fixtures" / "older_config.json").read_text())
    older, today = configs.flatten(configs.read(tmp_path)), configs.flatten(base.get_config())
    assert older.keys() <= today.keys()
    changed = {"reprojection.smooth_edges": "illumination", "reprojection.ssim_share": 0.7}
    for key, value in (changed | {"second_view.bidirectional": False, "reprojection.auto_mask": True}).items():
        assert older[key] == value
    assert {key.rpartition(".")[0] for key in configs.MOVED.values()} <= {key.split(".")[0] for key in today}


def test_a_workdir_refuses_another_experiment_but_not_another_log_interval(tmp_path):
    config = tiny_config()
    with Workdir(tmp_path / "run", config):
        pass
    (tmp_path / "run" / "checkpoints" / "5").mkdir(parents=True)
    config.log.every = 77
    with Workdir(tmp_path / "run", config):
        pass
    config.optimizer.learning_rate = 0.5
    with pytest.raises(
        UserError, match=r"optimizer.learning_rate \(0.0001 there, 0.5 now\). Give the values from there"
    ):
        Workdir(tmp_path / "run", config)


def test_a_workdir_without_a_checkpoint_takes_a_corrected_config(tmp_path, capsys):
    """Its first run ended before it had learnt anything, for instance because this config was wrong."""
    config, workdir = tiny_config(), tmp_path / "run"
    with Workdir(workdir, config):
        pass
    (workdir / "train_median.npz").write_bytes(b"of the other size")
    (workdir / "checkpoints" / "5.orbax-checkpoint-tmp").mkdir(parents=True)  # killed while it saved
    config.image_size = (64, 64)
    with Workdir(workdir, config):
        pass
    assert configs.read(workdir).image_size == (64, 64)
    assert not (workdir / "train_median.npz").exists()
    assert "image_size ((32, 64) there, (64, 64) now)" in capsys.readouterr().out
    (workdir / "checkpoints_damaged" / "5").mkdir(parents=True)  # it did learn something
    config.image_size = (32, 32)
    with pytest.raises(UserError, match="belongs to another experiment"):
        Workdir(workdir, config)


def test_a_workdir_of_a_version_that_lacked_an_option_goes_on_with_its_default(tmp_path):
    old = tiny_config()
    with old.unlocked():
        del old.model["remat"], old.health["mask_proxy"]
    with Workdir(tmp_path / "run", old):
        (tmp_path / "run" / "checkpoints" / "5").mkdir(parents=True)
    config = tiny_config()
    with Workdir(tmp_path / "run", config):
        pass
    config.model.remat = "full"
    with pytest.raises(UserError, match=r"model\.remat"):
        Workdir(tmp_path / "run", config)


def test_a_workdir_takes_one_process_at_a_time_and_no_foreign_folder(tmp_path):
    config = tiny_config()
    with Workdir(tmp_path / "run", config), pytest.raises(UserError, match="another process"):
        Workdir(tmp_path / "run", config)
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="holds files of something else"):
        Workdir(tmp_path, config)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_metrics_of_a_killed_run_are_not_written_twice(tmp_path):
    writer = MetricWriter(tmp_path, first_step=1)
    for step in (1, 2, 3):
        writer.write_scalars(step, {"loss": step / 10})
    writer.close()
    with (tmp_path / METRICS_FILE).open("a") as lines:
        lines.write('{"step": 4, "lo')  # killed while writing
    writer = MetricWriter(tmp_path, first_step=3)
    writer.write_scalars(3, {"loss": 0.5})
    writer.close()
    rows = [json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines()]
    assert rows == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2}, {"step": 3, "loss": 0.5}]


def test_duration():
    assert duration(3 * 3600 + 62.4) == "3:01:02"


def test_the_first_matching_rule_places_an_array_and_scalars_are_replicated():
    mesh = sharding.make_mesh("data")
    rules = (("kernel", (None, "data")), (".*", ()))
    tree = {"depth": {"kernel": jnp.zeros((3, 8)), "bias": jnp.zeros(8)}, "step": jnp.int32(0)}
    places = sharding.shardings_by_rules(tree, rules, mesh)
    assert places["depth"]["kernel"].spec == P(None, "data")
    assert places["depth"]["bias"].spec == P()
    assert places["step"].spec == P()
    with pytest.raises(UserError, match="depth/bias"):
        sharding.shardings_by_rules(tree, (("kernel", ()),), mesh)


def test_a_batch_is_split_over_the_devices_or_refused_with_the_sizes_that_would_do():
    config = tiny_config()
    mesh = sharding.make_mesh("data")
    batch = sharding.put_batch(random_batch(config), mesh)
    assert batch.target.sharding.shard_shape(batch.target.shape) == (1, 32, 64, 3)
    config.batch_size = 12
    with pytest.raises(UserError, match="8 devices; use 8 or 16"):
        sharding.put_batch(random_batch(config), mesh)
