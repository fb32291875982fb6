"""ESPNetv2 answers as its authors' PyTorch network does, and segments real streets with their weights.

The original ran in float64 on random weights; samples of its answers are stored as float32.
"""

import functools
import pathlib
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from robustdepth.errors import UserError
from robustdepth.interop.espnet_weights import load_espnetv2
from robustdepth.interop.torch_file import read_weights
from robustdepth.models.espnet import CITYSCAPES_CLASSES, ESPNetv2

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
sys.path.insert(0, str(FIXTURES))
import espnet_weights  # noqa: E402

WHOLE = "logits"  # variables of encoder and decoder; the default method's are the encoder's alone
REGIONS = (  # class, rows and columns in a real frame resized to 192x640, as seen by eye
    ("sky", (2, 14), (80, 380)),
    ("vegetation", (2, 20), (2, 20)),
    ("car", (112, 155), (292, 366)),
    ("car", (150, 180), (5, 60)),
    ("road", (172, 192), (215, 275)),
    ("road", (172, 192), (380, 440)),
)


@functools.cache
def zeros(network, method=None, size=(32, 32)):
    """Variables of the right shapes: every number in them must come from the file."""
    image = jnp.zeros((1, *size, 3))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), image, method=method))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def test_logits_equal_the_original():
    variables, _ = load_espnetv2(zeros(ESPNetv2(), WHOLE), espnet_weights.state_dict(), "espnetv2")
    network = ESPNetv2(dtype=jnp.float64)
    with jax.enable_x64(True), np.load(espnet_weights.FIXTURE) as expected:
        image = jnp.asarray(espnet_weights.image(espnet_weights.SIZES["whole"]), jnp.float64)
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        logits = jax.jit(lambda *args: network.apply(*args, method=WHOLE))(variables, image)
        assert logits.shape == (*image.shape[:3], 20)
        theirs = expected["whole_logits"]
        assert np.abs(espnet_weights.sample(logits) - theirs).max() <= 1e-6 * np.abs(theirs).max()


def test_features_of_sizes_without_whole_strides_equal_the_original():
    variables, _ = load_espnetv2(zeros(ESPNetv2()), espnet_weights.state_dict(), "espnetv2")
    size = espnet_weights.SIZES["odd"]
    features = jax.jit(ESPNetv2().apply)(variables, jnp.asarray(espnet_weights.image(size)))
    with np.load(espnet_weights.FIXTURE) as expected:
        assert set(features) == {2, 4, 8, 16}
        for stride, ours in features.items():
            assert ours.dtype == jnp.float32
            assert ours.shape[1:3] == tuple(-(-length // stride) for length in size)
            theirs = expected[f"odd_{stride}"]
            assert np.abs(espnet_weights.sample(ours) - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_features_have_the_asked_type_and_the_widths_of_the_scale():
    network, image = ESPNetv2(scale=0.5, dtype=jnp.bfloat16), jnp.zeros((1, 48, 64, 3))
    features = jax.eval_shape(network.apply, zeros(ESPNetv2(scale=0.5)), image)
    assert {stride: (leaf.shape, leaf.dtype) for stride, leaf in features.items()} == {
        2: ((1, 24, 32, 16), jnp.bfloat16),
        4: ((1, 12, 16, 32), jnp.bfloat16),
        8: ((1, 6, 8, 64), jnp.bfloat16),
        16: ((1, 3, 4, 128), jnp.bfloat16),
    }


def test_report_accounts_for_every_tensor():
    weights = espnet_weights.state_dict()
    _, whole = load_espnetv2(zeros(ESPNetv2(), WHOLE), weights, "espnetv2")
    assert whole.loaded + len(whole.ignored) == len(weights) == 526
    useless = {name for name in whole.ignored if not name.endswith("num_batches_tracked")}
    assert useless == {f"base_net.level{level}_0.eesp.module_act.weight" for level in (2, 3, 4)}
    assert whole.parameters == sum(value.size for name, value in weights.items() if name not in whole.ignored)

    variables, encoder = load_espnetv2(zeros(ESPNetv2()), weights, "espnetv2")
    assert set(variables["params"]) == {"encoder"}
    left_out = set(encoder.ignored) - set(whole.ignored)
    assert left_out == {name for name in weights if not name.startswith("base_net.")} - set(whole.ignored)
    assert "EdgeNets" in str(encoder)


def test_names_saved_from_data_parallel_are_known():
    weights = {f"module.{name}": value for name, value in espnet_weights.state_dict().items()}
    assert load_espnetv2(zeros(ESPNetv2()), weights, "espnetv2")[1].loaded == 312


def drop(weights):
    del weights["base_net.level3.1.br_after_cat.act.weight"]


def misshape(weights):
    weights["base_net.level4.6.spp_dw.3.conv.weight"] = np.zeros((128, 1, 5, 5), np.float32)


def add(weights):
    weights["base_net.level5_0.act.weight"] = np.zeros(1024, np.float32)


def spoil(weights):
    weights["merge_enc_dec_l3.wt_layer.1.weight"] = np.full((48, 128, 1, 1), np.inf, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"level3\.1\.br_after_cat\.act\.weight is missing"),
        (misshape, r"level4\.6\.spp_dw\.3\.conv\.weight has shape \(128, 1, 5, 5\)"),
        (add, r"level5_0\.act\.weight has no place"),
        (spoil, r"merge_enc_dec_l3\.wt_layer\.1\.weight holds values that are not finite"),
        (dict.clear, "not of 'espnetv2' .* first tensors are none"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message):
    weights = espnet_weights.state_dict()
    change(weights)
    with pytest.raises(UserError, match=message):
        load_espnetv2(zeros(ESPNetv2(), WHOLE), weights, "espnetv2")


def test_weights_of_another_architecture_or_scale_are_refused():
    resnet = {"conv1.weight": np.zeros((64, 3, 7, 7), np.float32), "bn1.weight": np.zeros(64, np.float32)}
    with pytest.raises(UserError, match=r"not of 'espnetv2' .* first tensors are conv1\.weight, bn1\.weight\.$"):
        load_espnetv2(zeros(ESPNetv2()), resnet, "espnetv2")
    with pytest.raises(UserError, match=r"do not fit 'espnetv2': base_net\S+ has shape .* and \d+ more"):
        load_espnetv2(zeros(ESPNetv2(scale=0.5)), espnet_weights.state_dict(), "espnetv2")


def hostile(path):
    """A file that would run a command if it were unpickled as Python does."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02cposix\nsystem\nX\x05\x00\x00\x00false\x85R.")


def truncated(path):
    weights = espnet_weights.state_dict()
    content = safetensors.numpy.save({name: np.ascontiguousarray(value) for name, value in weights.items()})
    path.with_suffix(".safetensors").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (lambda path: None, "weights.pth", r"weights\.pth does not exist\.$"),
        (hostile, "weights.pth", r"is refused: it asks for 'posix\.system'"),
        (truncated, "weights.safetensors", "cannot be read as safetensors"),
        (lambda path: path.write_bytes((FIXTURES / "zip.pth").read_bytes()[:900]), "weights.pth", "truncated"),
        (lambda path: path.write_bytes((FIXTURES / "zip.pth").read_bytes()), "weights.pth", "tensors are grid, "),
    ],
)
def test_files_that_are_no_such_weights_are_refused_in_one_sentence(write, name, message, tmp_path):
    write(tmp_path / "weights.pth")
    with pytest.raises(UserError, match=message) as error:
        load_espnetv2(zeros(ESPNetv2()), read_weights(tmp_path / name), "espnetv2")
    assert "\n" not in str(error.value)


def test_unknown_scales_and_sizes_are_refused():
    with pytest.raises(UserError, match=r"no scale 3\.0: choose 0\.5, "):
        zeros(ESPNetv2(scale=3.0))
    with pytest.raises(UserError, match="multiples of 32"):
        zeros(ESPNetv2(), WHOLE, size=(40, 64))


@pytest.fixture(scope="module")
def published(real_data):
    """The published Cityscapes weights; they lie beside the real footage."""
    files = list((real_data.parent / "weights").glob("espnetv2_cityscapes/*.pth"))
    if not files:
        pytest.skip("the published ESPNetv2 weights are not there")
    return files[0]


def test_published_weights_segment_real_streets(published, real_data):
    frame = next((real_data / "kitti_raw").glob("*/*_drive_9001_sync/image_02/data/0000000020.*"))
    size = (192, 640)
    with Image.open(frame) as image:
        pixels = np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR), np.float32)
    network = ESPNetv2()
    variables, _ = load_espnetv2(zeros(network, WHOLE), read_weights(published), "espnetv2")
    logits = jax.jit(lambda *args: network.apply(*args, method=WHOLE))(variables, jnp.asarray(pixels[None] / 255))
    classes = np.asarray(logits[0].argmax(-1))

    for expected, rows, columns in REGIONS:
        share = (classes[slice(*rows), slice(*columns)] == CITYSCAPES_CLASSES.index(expected)).mean()
        assert share > 0.8, f"{share:.0%} {expected} in rows {rows}, columns {columns}"
