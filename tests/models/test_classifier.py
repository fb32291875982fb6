"""The packaged EfficientNet-Lite0 weights recognise real photos, so architecture and conversion are right."""

import importlib.util
import pathlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.errors import UserError
from robustdepth.interop.convert import find_packaged_lite0, load_encoder
from robustdepth.interop.torch_file import read_weights
from robustdepth.models.classifier import build_classifier

# Photos of the scikit-image package -> ImageNet classes that name what they show, and the least probability of these.
PHOTOS = {
    "chelsea.png": ((281, 282, 283, 284, 285), 0.85),  # a tabby cat; the classes are breeds of cats
    "coffee.png": ((967,), 0.9),  # espresso
    "camera.png": ((872,), 0.9),  # tripod
    "rocket.jpg": ((657, 744), 0.4),  # missile, projectile
    "motorcycle_left.png": ((665, 670), 0.6),  # moped, motor scooter
}


def read_photo(file: pathlib.Path) -> np.ndarray:
    """The middle 7/8 of the shorter side, at 224 x 224, in [0, 1]."""
    image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    side = int(min(height, width) * 0.875)
    top, left = (height - side) // 2, (width - side) // 2
    crop = image[top : top + side, left : left + side]
    return cv2.resize(crop, (224, 224), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


@pytest.fixture(scope="module")
def probabilities():
    spec = importlib.util.find_spec("skimage")
    if spec is None:
        pytest.skip("the photos come with scikit-image, which is not installed")
    try:
        weights = read_weights(find_packaged_lite0())
    except UserError as error:
        pytest.skip(str(error))
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "data"
    images = jnp.asarray(np.stack([read_photo(folder / name) for name in PHOTOS]))
    network = build_classifier("efficientnet_lite0")
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, False))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    variables, report = load_encoder(zeros, weights, "efficientnet_lite0")
    assert report.loaded == 247
    logits = jax.jit(network.apply, static_argnums=2)(variables, images, False)
    return dict(zip(PHOTOS, np.asarray(jax.nn.softmax(logits)), strict=True))


@pytest.mark.parametrize("name", sorted(PHOTOS))
def test_real_photos_are_recognised(probabilities, name):
    classes, least = PHOTOS[name]
    assert probabilities[name].argmax() in classes
    assert probabilities[name][list(classes)].sum() > least
