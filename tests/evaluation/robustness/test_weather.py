"""Evaluation under rendered weather: what is completed, what changes, and what must not."""

import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.evaluation.robustness.weather import FAR, WeatherSamples, complete, under_weather
from robustdepth.evaluation.run import Options
from robustdepth.types import Camera, EvalSample

SIZE = (32, 64)


def street(sparse: bool = False) -> list[EvalSample]:
    """A dark checkerboard: near on the left, far on the right, bright sky above."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.repeat(np.where((rows // 2 + columns // 2) % 2, 40, 80)[..., None], 3, axis=-1).astype(np.uint8)
    image[:8] = 200
    depth = np.where(columns < 32, 3.0, 90.0).astype(np.float32)
    depth[:8] = 0.0
    if sparse:
        depth = np.where((rows % 4 == 0) & (columns % 4 == 0), depth, 0.0).astype(np.float32)
    camera = Camera(np.full(2, 40.0, np.float32), np.array([31.5, 15.5], np.float32), SIZE)
    return [EvalSample(image, depth, camera, f"frame {i}") for i in range(2)]


def test_fog_takes_contrast_from_what_is_far_and_leaves_the_truth_alone():
    clear = street()[0]
    foggy = WeatherSamples(street(), "fog(0.6-0.6)")[0]
    np.testing.assert_array_equal(foggy.depth, clear.depth)
    assert (foggy.name, foggy.image.dtype, foggy.image.shape) == (clear.name, np.uint8, clear.image.shape)

    def contrast(image, columns):
        return float(image[8:, columns].std())

    assert contrast(foggy.image, slice(2, 30)) > 0.6 * contrast(clear.image, slice(2, 30))
    assert contrast(foggy.image, slice(34, 62)) < 0.2 * contrast(clear.image, slice(34, 62))


def test_a_frame_looks_the_same_in_every_evaluation_and_others_look_otherwise():
    first, again = (WeatherSamples(street(), "sensor_noise(0.8-1.0)") for _ in range(2))
    np.testing.assert_array_equal(first[1].image, again[1].image)
    assert (first[0].image != first[1].image).any()


def test_sparse_depth_is_completed_by_the_nearest_return_and_far_above_all():
    depth = np.zeros((6, 7), np.float32)
    depth[2, 1], depth[4, 5] = 5.0, 20.0
    full = complete(depth)
    assert (full[:2, 0] == FAR).all()
    assert (full[2:, :2] == 5.0).all()
    assert (full[4:, 5:] == 20.0).all()
    assert (full[:4, 6] == FAR).all()
    dense = np.full((3, 4), 7.0, np.float32)
    np.testing.assert_array_equal(complete(dense), dense)


def test_sparse_truth_gives_nearly_the_weather_of_dense_truth():
    dense, sparse = (WeatherSamples(street(sparse), "fog(0.6-0.6)")[0].image.astype(float) for sparse in (False, True))
    assert np.abs(dense - sparse)[:, 36:].mean() < 3.0
    assert np.abs(dense - sparse)[:, :28].mean() < 3.0


def test_the_weather_is_part_of_the_name():
    protocol = under_weather(PROTOCOLS.find("world"), "rain+night")
    assert protocol.name == "world[rain+night]"
    assert protocol.clip == PROTOCOLS.find("world").clip


def test_what_cannot_be_is_refused_before_anything_runs():
    with pytest.raises(UserError, match="did you mean fog"):
        Options(protocols=("world",), weather="fogg")
    with pytest.raises(UserError, match="needs a model and protocols of depth in images"):
        Options(protocols=("odometry",), weather="fog")
