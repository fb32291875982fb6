"""A trained network in one .safetensors file, small enough to travel with a package.

Kernels are stored in half precision, everything else unchanged. The weights of a frozen encoder that come from an
installed package are not stored: loading reads them from that package again.
"""

import json
import os
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.interop.convert import load_pretrained
from robustdepth.models.build import build_main_net
from robustdepth.runtime import checkpoint
from robustdepth.runtime import config as configs
from robustdepth.runtime.checkpoint import Weights, load_weights
from robustdepth.runtime.files import replacing
from robustdepth.runtime.published import is_published, read_published

SUFFIX = ".safetensors"
HALF_PRECISION = 1e-3  # relative, its rounding at most
HUB_WEIGHTS, HUB_CONFIG = "model.safetensors", "config.json"  # of a folder in Hugging Face's form
BUNDLED = "bundled"  # stands for the model inside the package
FOLDER = pathlib.Path(__file__).resolve().parent.parent / "weights"
BUNDLED_MODEL = FOLDER / "robustdepth_world.safetensors"
BUNDLED_EXPERT = FOLDER / "world_expert.safetensors"
BUNDLED_STEREO = FOLDER / "world_stereo.safetensors"


def is_bundle(path: str | pathlib.Path) -> bool:
    """Whether `path` names such a file, a folder in Hugging Face's form, or the bundled model, not a workdir."""
    name = os.fspath(path)
    return name == BUNDLED or pathlib.Path(path).suffix == SUFFIX or os.path.isfile(os.path.join(name, HUB_WEIGHTS))


def write_bundle(weights: Weights, path: pathlib.Path) -> int:
    """Writes the networks that are used after training; returns the file's size in bytes.

    Raises:
      UserError: the file cannot be written, or a number is too large for half precision.
    """
    packaged = _packaged_encoder(weights.config)
    tensors = {}
    for key, value in _arrays(weights).items():
        if key not in packaged or not np.allclose(value, packaged[key], rtol=HALF_PRECISION):
            tensors[key] = _stored(key, value)
    try:
        _save(tensors, _metadata(weights), path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"cannot write {path} ({error}): give another --output.") from None
    return path.stat().st_size


def write_exact_bundle(weights: Weights, path: pathlib.Path, notes: Mapping[str, str]) -> None:
    """Writes the same networks with every number as it is, a packaged encoder's too, and notes. Raises OSError."""
    tensors = {key: value.astype(np.float32, order="C") for key, value in _arrays(weights).items()}
    _save(tensors, {**_metadata(weights), **notes}, path)


def read_notes(path: pathlib.Path) -> dict[str, str]:
    """The texts beside the networks of such a file. Raises UserError where it cannot be read."""
    try:
        with safetensors.safe_open(path, "np") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"model file {path} is damaged or of another kind ({error}).") from None


def _arrays(weights: Weights) -> dict[str, np.ndarray]:
    """By their keys in the file, those of the networks that are used after training."""
    found: dict[str, np.ndarray] = {}
    for name in ("depth", "pose", "segmentation", "stereo"):
        if name in weights.params:
            tree = {"params": weights.params[name], "batch_stats": weights.stats.get(name, {})}
            found |= {f"{name}/{key}": np.asarray(value) for key, value in flatten_dict(tree, sep="/").items()}
    return found


def _metadata(weights: Weights) -> dict[str, str]:
    return {"config": json.dumps(weights.config.to_dict()), "step": str(weights.step)}


def _save(tensors: dict[str, np.ndarray], metadata: dict[str, str], path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(safetensors.numpy.save(tensors, metadata))


def _stored(key: str, value: np.ndarray) -> np.ndarray:
    if value.ndim < 2:
        return value.astype(np.float32)
    if not np.abs(value).max(initial=0) <= np.finfo(np.float16).max:
        raise UserError(f"{key} holds numbers that are not finite in half precision: such a network is not exported.")
    return value.astype(np.float16, order="C")  # safetensors writes the memory as it lies


def read_bundle(path: str | pathlib.Path) -> Weights:
    """The networks of such a file or folder; "bundled" is the one inside the package.

    Raises:
      UserError: no file there, or none that `write_bundle` wrote.
    """
    path = BUNDLED_MODEL if str(path) == BUNDLED else pathlib.Path(path)
    if path.is_dir():
        path /= HUB_WEIGHTS
    if not path.is_file():
        raise UserError(f"model file {path} does not exist.")
    try:
        with safetensors.safe_open(path, "np") as file:
            metadata, names = file.metadata() or {}, file.keys()
            tensors = {name: file.get_tensor(name).astype(np.float32) for name in names}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"model file {path} is damaged or of another kind ({error}).") from None
    try:
        config, step = configs.from_json(metadata["config"]), int(metadata["step"])
        networks = unflatten_dict(_packaged_encoder(config) | tensors, sep="/")
        params = {name: tree["params"] for name, tree in networks.items()}
        stats = {name: tree.get("batch_stats", {}) for name, tree in networks.items()}
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:  # names or config lack a part
        raise UserError(
            f"{path} is no model file of this project: python -m robustdepth.export writes them."
        ) from error
    return Weights(config, params, stats, step)


def read_model(path: str | pathlib.Path, step: int | None = None) -> Weights:
    """The networks of a workdir at its newest whole checkpoint, at `step`, or at that of WORKDIR/checkpoints/STEP; or
    those of a model file, or of a network that others published.

    Raises:
      UserError: see `read_bundle`, `published.read_published` and `checkpoint.load_weights`.
    """
    if is_published(path):
        return read_published(path)
    if is_bundle(path):
        return read_bundle(path)
    folder, named = _workdir_and_step(pathlib.Path(path))
    return load_weights(folder, named if step is None else step)


def task_of(path: str | pathlib.Path) -> str:
    """What a workdir or model file was trained for, config.task; "depth" where that stands nowhere.

    Raises:
      UserError: the model file cannot be read, see `read_bundle`.
    """
    if is_published(path):
        return "depth"
    if is_bundle(path):
        return read_bundle(path).config.task
    folder, _ = _workdir_and_step(pathlib.Path(path))
    folder = folder.parent if folder.name == checkpoint.FOLDER else folder
    return configs.read(folder).get("task", "depth") if (folder / configs.CONFIG_FILE).is_file() else "depth"


def _workdir_and_step(path: pathlib.Path) -> tuple[pathlib.Path, int | None]:
    if path.parent.name == checkpoint.FOLDER and path.name.isdecimal():
        return path.parent, int(path.name)
    return path, None


def _packaged_encoder(config: ConfigDict) -> dict[str, np.ndarray]:
    """The arrays of a frozen encoder from an installed package, by their keys in the file; {} for other encoders."""
    if config.task == "stereo" or not config.model.freeze_encoder or config.model.pretrained != "package":
        return {}
    network = build_main_net(config)
    image = jax.ShapeDtypeStruct((1, *config.image_size, 3), jnp.float32)
    shapes = jax.eval_shape(lambda key, x: network.init(key, x, train=False), jax.random.key(0), image)
    encoder = {part: {"encoder": tree["encoder"]} for part, tree in shapes.items() if "encoder" in tree}
    filled, _, _ = load_pretrained(config.model, encoder, None)
    return {f"{config.task}/{key}": value for key, value in flatten_dict(filled, sep="/").items()}
