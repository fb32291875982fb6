"""Starting from the networks of an earlier training."""

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from robustdepth.errors import UserError
from robustdepth.runtime import init_from as module
from robustdepth.runtime.checkpoint import Weights
from robustdepth.runtime.init_from import init_from
from tests.tiny import tiny_config


def tree(seed: int, width: int = 3) -> dict:
    draw = np.random.default_rng(seed)
    leaf = lambda *shape: draw.normal(size=shape).astype(np.float32)  # noqa: E731
    return {
        "params": {"encoder": {"kernel": leaf(3, 3, 4, 8)}, "head": {"kernel": leaf(3, 3, 8, width)}},
        "batch_stats": {"encoder": {"mean": leaf(8)}},
    }


@pytest.fixture
def earlier(monkeypatch):
    """What the earlier training left: a depth network."""
    depth = tree(0)
    weights = Weights(tiny_config(), {"depth": depth["params"]}, {"depth": depth["batch_stats"]}, 7)
    monkeypatch.setattr(module, "read_model", lambda path: weights)
    return depth


def test_what_fits_is_taken_and_the_rest_stays(earlier):
    own = {"depth": tree(1, width=1), "pose": tree(2)}
    filled, lines = init_from("runs/earlier", own)
    flat, wanted, before = (flatten_dict(t, sep="/") for t in (filled["depth"], earlier, own["depth"]))
    for key in ("params/encoder/kernel", "batch_stats/encoder/mean"):
        np.testing.assert_array_equal(flat[key], wanted[key])
    np.testing.assert_array_equal(flat["params/head/kernel"], before["params/head/kernel"])
    np.testing.assert_array_equal(filled["pose"]["params"]["head"]["kernel"], own["pose"]["params"]["head"]["kernel"])
    assert lines == [
        "depth network: 80.4% of its numbers from runs/earlier; 1 arrays start as configured, first params/head/kernel",
        "pose network: not in runs/earlier, starts as configured",
    ]


def test_another_network_is_refused(earlier):
    other = {"depth": {"params": {"encoder": {"kernel": np.zeros((7, 7, 3, 64), np.float32)}}}}
    with pytest.raises(UserError, match=r"fits 0% of the depth network alone \(1 arrays differ, first params/encoder"):
        init_from("runs/earlier", other)
    with pytest.raises(UserError, match="holds the networks depth, this training has segmentation"):
        init_from("runs/earlier", {"segmentation": tree(0)})
