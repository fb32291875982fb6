"""A depth network as the teacher of disparities: unit and shift come from matching, outlines from the network."""

import numpy as np
import pytest

from configs import base
from robustdepth.data.stereo.proxies import open_proxies
from robustdepth.errors import UserError
from robustdepth.runtime.inference import DepthModel
from robustdepth.teachers.depth_teacher import DepthTeacher, fit
from robustdepth.types import AFFINE, RELATIVE
from tests.recordings import SIZE
from tests.stereo_fakes import noise_pair
from tests.stereo_rig import DISPARITY, frames_of, run_proxies, write_rig

FAR, NEAR = 6, 18  # pixels


class Painter(DepthModel):
    """A made-up network: the red of an image is its inverse depth, up to this factor and shift."""

    kind = AFFINE

    @property
    def scale(self):
        return self.kind

    def prepare(self, image):
        return image.astype(np.float32)

    def inverse_depth(self, images):
        return images[..., 0]


def street() -> tuple[np.ndarray, np.ndarray]:
    """Whole disparities of the left view, 48x128: a near box before a far wall; and those of the right view."""
    left, right = np.full((2, 48, 128), FAR)
    left[16:40, 60:90] = NEAR
    right[16:40, 60 - NEAR : 90 - NEAR] = NEAR
    return left, right


@pytest.mark.parametrize(("kind", "factor", "shift"), [(AFFINE, 4.0, -3.0), (RELATIVE, 0.5, 0.0)])
def test_a_network_that_knows_the_shape_gets_the_rigs_unit(monkeypatch, kind, factor, shift):
    """Matching sees noise of known disparity; the network sees, in place of its colours, the true shape in its unit."""
    left_view, right_view, _ = noise_pair(street()[0])
    images = [(255 * view).round().astype(np.uint8) for view in (left_view, right_view)]
    shapes = {image.tobytes(): (truth - shift) / factor for image, truth in zip(images, street(), strict=True)}
    monkeypatch.setattr(Painter, "kind", kind)
    monkeypatch.setattr(Painter, "prepare", lambda self, image: np.float32(shapes[image.tobytes()])[..., None])
    found = DepthTeacher(Painter(base.get_config(), {}, 0, "painter"), 32).match(*images)
    for (disparity, failed), truth in zip(found, street(), strict=True):
        np.testing.assert_allclose(disparity, truth, atol=0.15)  # matching itself answers in 1/16 pixels
        assert failed.mean() < 0.15
    hidden = found[0][1][16:40, 60 - (NEAR - FAR) : 60]  # the wall left of the box, which the right camera cannot see
    assert hidden.mean() > 0.9
    assert not found[0][1][:12, FAR + 1 :].any()


def test_the_fit_leaves_out_what_matching_got_wrong():
    draw = np.random.default_rng(0)
    inverse = draw.uniform(0.01, 0.3, 4000)
    disparity = 150 * inverse + 2 + draw.normal(0, 0.1, 4000)
    disparity[:1000] = draw.uniform(1, 60, 1000)
    factor, shift = fit(inverse, disparity, shifted=True)
    assert factor == pytest.approx(150, rel=0.015)
    assert shift == pytest.approx(2, abs=0.5)
    plain = np.polyfit(inverse, disparity, 1)
    assert abs(plain[0] - 150) > 20  # plain least squares
    assert fit(inverse, 150 * inverse, shifted=False) == (pytest.approx(150), 0.0)


def test_where_matching_is_sure_of_nothing_there_is_no_answer():
    plain = np.full((48, 128, 3), 128, np.uint8)
    for disparity, failed in DepthTeacher(Painter(base.get_config(), {}, 0, "painter"), 32).match(plain, plain):
        assert not disparity.any()
        assert not failed.any()


def test_numbers_that_no_proxy_can_hold(monkeypatch):
    """Beyond the range a pixel of the fit is unknown; a network that answers NaN and matches that far are refused."""
    teacher, image = DepthTeacher(Painter(base.get_config(), {}, 0, "painter"), 32), np.zeros((48, 128, 3), np.uint8)
    inverse, none = np.full((1, 48, 128), 0.1, np.float32), np.zeros((48, 128), bool)
    inverse[0, :, 64:] = 0.2
    inverse[0, 5, 7] = 3.0  # the fit says 300 pixels
    matched = np.where(inverse[0] > 1, 0, 100 * inverse[0])
    monkeypatch.setattr(Painter, "inverse_depth", lambda self, images: inverse)
    found = teacher._disparity(image, matched, none)
    assert found[5, 7] == 0
    np.testing.assert_allclose(found[6], matched[6], rtol=1e-3)
    with pytest.raises(UserError, match=r"300\.0 pixels is beyond the range of a proxy"):
        teacher._disparity(image, 15 * matched, none)
    inverse[0, 5, 7] = np.nan
    with pytest.raises(UserError, match="painter answers NaN or infinity"):
        teacher._disparity(image, matched, none)


def test_the_command_takes_the_bundled_network(tmp_path, monkeypatch):
    """The rig shows one plane, which no network need see: the least that the fit gives is its mean disparity."""
    write_rig(tmp_path / "clip", count=2)
    run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out", method="depth:bundled")
    proxies = open_proxies(tmp_path / "out")
    for frame in frames_of(tmp_path / "clip"):
        disparity, _ = proxies.read(frame, SIZE)
        assert np.all(disparity > 0)
        assert np.median(disparity) == pytest.approx(DISPARITY, rel=0.5)
    with pytest.raises(UserError, match=r"another preparation \(method differs"):
        run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "out", method="sgm")
    with pytest.raises(UserError, match="nothing_here"):
        run_proxies(monkeypatch, tmp_path / "clip", tmp_path / "other", method="depth:nothing_here")
