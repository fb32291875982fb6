"""Vehicles: nothing stands where the camera drives, and heavy traffic has large vehicles close ahead."""

import jax
import numpy as np
import pytest

from robustdepth.world.generate import sample_worlds, scene_keys
from robustdepth.world.ground import NOWHERE
from robustdepth.world.solids import CLASSES
from robustdepth.world.traffic import GAP

SCENES = 600


@pytest.fixture(scope="module")
def ahead() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all solids: which are vehicles ahead in the camera's lane, where their rear is, their label."""
    worlds = jax.tree.map(np.asarray, sample_worlds(scene_keys(3, "train", np.arange(SCENES))))
    boxes, ground = worlds.boxes, worlds.ground
    x, y, z = np.moveaxis(boxes.center, -1, 0)
    vehicle = np.isin(boxes.label, [CLASSES.index("car"), CLASSES.index("truck")]) & (y < NOWHERE / 2)
    beside = x - 0.5 * ground.curvature[:, None] * z * z - ground.lane[:, None]
    return vehicle & (np.abs(beside) < 2.2) & (z > 0), z - boxes.half[..., 2], boxes.label


def test_no_vehicle_ahead_stands_nearer_than_the_gap(ahead):
    there, rear, _ = ahead
    assert there.sum() > SCENES / 2
    assert rear[there].min() >= GAP - 1e-3


def test_a_share_of_the_scenes_has_a_truck_or_bus_close_ahead(ahead):
    there, rear, label = ahead
    close = (there & (label == CLASSES.index("truck")) & (rear < 15)).any(axis=1)
    # A quarter are heavy, three quarters of them have the vehicle, and a third of these are trucks or buses: 6%.
    assert 0.04 < close.mean() < 0.12
