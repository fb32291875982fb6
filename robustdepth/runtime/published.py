"""Depth networks that others published, from their own files: `read_published` makes them what a training leaves.

Whatever takes a working folder takes these files as well: prediction, evaluation, export, config.init_from. A network
becomes a config and variables of this project's modules; `config.published` says whose it is.

* Depth Anything V2, Small and Base: one file, the authors' .pth or Hugging Face's model.safetensors.
* monodepth2, Lite-Mono and MonoViT: a folder with encoder.pth and depth.pth and, where it has them, pose_encoder.pth
  and pose.pth.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.interop import depth_anything_weights, lite_mono_weights, monodepth2_weights, monovit_weights
from robustdepth.interop.fill import Report, Variables
from robustdepth.interop.torch_file import TORCH_SUFFIXES, read_weights
from robustdepth.models.build import build_depth_net, build_pose_net
from robustdepth.runtime import config as configs
from robustdepth.runtime.checkpoint import Weights
from robustdepth.types import AFFINE, STEREO, TEMPORAL

COVER = "cover"  # images keep their shape: each is resized until it covers config.image_size
PARTS = ("encoder", "depth", "pose_encoder", "pose")  # files of a folder, without .pth
# Depth Anything's sizes by the width of its transformer, and their licences.
SIZES = {384: ("small", "Small", "Apache-2.0"), 768: ("base", "Base", "CC-BY-NC-4.0, for non-commercial purposes")}
# Their repositories are under MIT; parts of them come from monodepth2, whose licence is for non-commercial purposes.
LITE_MONO_LICENCE = "MIT, by the licence of its authors' repository"
MONOVIT_LICENCE = (
    f"{LITE_MONO_LICENCE}; their training began with MPViT's (ETRI), under GPL-3.0 for non-commercial purposes"
)
COUNTERS = r"(.*\.)?total_(ops|params)"  # what a counter of operations left in Lite-Mono's files
NATIVE = 518  # the side of the images that Depth Anything learned from

Tensors = Mapping[str, np.ndarray]
Loader = Callable[[Variables, Tensors, str], tuple[dict[str, Any], Report]]


@dataclasses.dataclass(frozen=True)
class _Network:
    """A published depth network before it is built."""

    title: str
    licence: str
    config: ConfigDict
    depth: tuple[Loader, Tensors]
    pose: tuple[Loader, Tensors] | None = None


def is_published(path: str | pathlib.Path) -> bool:
    """Whether `path` is a file or folder of a published network, by its form alone.

    A .safetensors file is one where it holds a Depth Anything by its names.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return all((path / f"{part}.pth").is_file() for part in PARTS[:2])
    if path.suffix in TORCH_SUFFIXES:
        return path.is_file()
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, "np") as file:
            return depth_anything_weights.naming_of(dict.fromkeys(file.keys())) is not None
    except (safetensors.SafetensorError, OSError, ValueError):
        return False


def read_published(path: str | pathlib.Path) -> Weights:
    """The networks of a published file or folder; prints what was read, and its licence.

    Raises:
      UserError: a file that cannot be read, of an unknown network, or that does not fit the network exactly.
    """
    path = pathlib.Path(path)
    found = _folder(path) if path.is_dir() else _depth_anything(path)
    height, width = found.config.image_size
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    networks: dict[str, tuple] = {"depth": (build_depth_net(found.config.model), (image,), found.depth)}
    if found.pose:
        networks["pose"] = build_pose_net(found.config.model), (image, image), found.pose
    params, stats, lines = {}, {}, []
    for name, (network, images, (load, tensors)) in networks.items():
        shapes = jax.eval_shape(lambda *x, net=network: net.init(jax.random.key(0), *x, train=False), *images)
        filled, report = load(shapes, tensors, f"{found.title}, {name} network" if found.pose else found.title)
        params[name], stats[name] = filled["params"], filled.get("batch_stats", {})
        lines.append(str(report))
    print(*lines, f"Licence of these weights: {found.licence}.", sep="\n")
    return Weights(found.config, params, stats, 0)


def _depth_anything(path: pathlib.Path) -> _Network:
    tensors = read_weights(path)
    naming = depth_anything_weights.naming_of(tensors)
    if naming is None:
        first = ", ".join(list(tensors)[:3]) or "none"
        raise UserError(
            f"{path} holds no depth network that is known here (docs/published.md lists them); its first tensors are "
            f"{first}. Encoders alone are loaded by config.model.pretrained."
        )
    _check_kind(path)
    width = tensors[naming.prefix + naming.transformer.class_token].shape[-1]
    if width not in SIZES:
        raise UserError(f"{path} holds a Depth Anything of width {width}: Small (384) and Base (768) are known here.")
    size, word, licence = SIZES[width]
    suffix = "" if naming is depth_anything_weights.AUTHORS else "_hf"
    title = f"Depth Anything V2 {word}"
    # Depths so far apart that the limits touch nothing but the sky.
    depths = dict(min_depth=1e-3, max_depth=1e6, initial_depth=1.0)
    model = dict(encoder=f"depth_anything_v2_{size}{suffix}", scales=1, **depths)
    config = _config(title, licence, (NATIVE, NATIVE), model, scale=AFFINE, sizing=COVER)
    config.model.token_stride = 14
    return _Network(title, licence, config, (depth_anything_weights.load_depth_anything, tensors))


def _check_kind(path: pathlib.Path) -> None:
    """Refuses the relatives of Depth Anything V2 that have the same names, as far as file name or config.json tell."""
    beside = path.parent / "config.json"
    kind, layers = "", (3, 6, 9, 12)
    if path.suffix == ".safetensors" and beside.is_file():
        try:
            content = json.loads(beside.read_text())
            kind = content.get("depth_estimation_type", "")
            layers = tuple(content.get("backbone_config", {}).get("out_indices", layers))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise UserError(f"{beside} beside the weights is damaged ({error}): mend it or take it away.") from error
    if "metric" in path.name or kind == "metric":
        raise UserError(f"{path} is a metric Depth Anything: those for relative inverse depth are known here.")
    if layers != (3, 6, 9, 12):
        raise UserError(
            f"{beside} says that layers {layers} are read, as in the first Depth Anything: version 2 is known here, "
            "which reads 3, 6, 9 and 12."
        )


def _folder(path: pathlib.Path) -> _Network:
    """A network of four files with monodepth2's names: its own, a Lite-Mono or a MonoViT."""
    files: dict[str, dict[str, np.ndarray]] = {}
    for part in PARTS:
        if (file := path / f"{part}.pth").is_file():
            tensors = read_weights(file, numbers=True)
            files[part] = {name: value for name, value in tensors.items() if not re.fullmatch(COUNTERS, name)}
    encoder, depth = files["encoder"], files["depth"]
    mark = next((mark for mark in KINDS if mark in encoder), monodepth2_weights.MARK)
    depth_mark, describe = KINDS[mark]
    for part, wanted in ("encoder", mark), ("depth", depth_mark):
        if wanted not in files[part]:
            first = ", ".join(list(files[part])[:3]) or "none"
            raise UserError(
                f"{path / part}.pth is neither of monodepth2, MonoViT nor Lite-Mono, it lacks {wanted}; its first "
                f"tensors are {first}."
            )
    size = tuple(int(encoder.pop(side, np.asarray(0)).item()) for side in ("height", "width"))
    if min(size) < 32 or max(size) > 4096 or any(side % 32 for side in size):
        raise UserError(f"{path}/encoder.pth names the image size {size[0]}x{size[1]}: multiples of 32 are right.")
    stereo = bool(encoder.pop("use_stereo", np.asarray(False)).item())
    title, licence, model, load = describe(path, encoder, stereo)
    # With stereo pairs their unit is 5.4 metres: the rig's baseline counts as 0.1, and is 0.54 m (their README).
    unit = 5.4 if stereo else 1.0
    model |= dict(normalisation="monodepth2", min_depth=0.1 * unit, max_depth=100.0 * unit)
    pose = None
    if {"pose_encoder", "pose"} <= files.keys():
        model["pose_encoder"] = monodepth2_weights.resnet_of(files["pose_encoder"])
        pose = monodepth2_weights.load_pose, {**files["pose_encoder"], **files["pose"]}
    config = _config(title, licence, size, model)
    temporal = TEMPORAL if pose or not stereo else ()
    config.data.views = (*temporal, STEREO) if stereo else temporal
    return _Network(title, licence, config, (load, {**encoder, **depth}), pose)


def _monodepth2(path: pathlib.Path, encoder: Tensors, stereo: bool) -> tuple[str, str, dict[str, Any], Loader]:
    """Title, licence, what `config.model` has of its own, and what fills it."""
    resnet = monodepth2_weights.resnet_of(encoder)
    title = f"monodepth2 ({resnet}, {'with stereo pairs' if stereo else 'monocular'})"
    licence = "monodepth2's, for non-commercial purposes (Niantic 2018)"
    return title, licence, dict(encoder=resnet), monodepth2_weights.load_depth


def _lite_mono(path: pathlib.Path, encoder: Tensors, stereo: bool) -> tuple[str, str, dict[str, Any], Loader]:
    name = lite_mono_weights.name_of(encoder)
    if name is None:
        raise UserError(f"{path}/encoder.pth is a Lite-Mono of none of the sizes tiny, small, base and 8M.")
    return f"Lite-Mono ({name})", LITE_MONO_LICENCE, dict(encoder=name, scales=3), lite_mono_weights.load_lite_mono


def _monovit(path: pathlib.Path, encoder: Tensors, stereo: bool) -> tuple[str, str, dict[str, Any], Loader]:
    return "MonoViT", MONOVIT_LICENCE, dict(encoder="monovit"), monovit_weights.load_monovit


# By a tensor of encoder.pth: one of depth.pth, and what describes the network.
KINDS = {
    monodepth2_weights.MARK: (monodepth2_weights.DEPTH_MARK, _monodepth2),
    lite_mono_weights.MARK: (monodepth2_weights.DEPTH_MARK, _lite_mono),
    monovit_weights.MARK: (monovit_weights.DEPTH_MARK, _monovit),
}


def _config(
    title: str, licence: str, size: tuple[int, ...], model: Mapping[str, Any], scale: str = "", sizing: str = ""
) -> ConfigDict:
    """The default config with this model, and what is to be known of it in `published`.

    `scale` is that of the depth where the config's views do not say it; `sizing` is COVER, or empty: exactly `size`.
    """
    config = configs.defaults()
    config.name, config.image_size = title, size
    config.data.world_share = 1.0  # what trivial baselines are computed from
    config.model.update(model)
    config.published = ConfigDict(dict(title=title, licence=licence, scale=scale, sizing=sizing))
    return config
