"""Whether published networks answer here as in their authors' code, on random weights with random batch statistics.

    python -m benchmarks.published_parity --network=monovit --code=MONOVIT_CLONE --output=FILE

CODE is a clone of the authors' repository. Its network gets drawn weights, torch.save writes them, `load_model` reads
them, and both see the same images. Goal: depth differs by at most 1e-4 of itself on every pixel. Needs torch,
torchvision and timm; the few names that MonoViT wants of mmcv and mmseg are made up.
"""

import argparse
import importlib
import json
import pathlib
import subprocess
import sys
import tempfile
import types
from functools import partial
from typing import Any

import numpy as np

from benchmarks.results import markdown, record
from robustdepth.models.resnet import IMAGENET_MEAN, IMAGENET_STD
from robustdepth.runtime.inference import load_model

COMMAND = "python -m benchmarks.published_parity --network={network} --code=CLONE --output={output}"
TITLE = "Published networks here and in their authors' code, on the same random weights"
NOTE = """\
* "difference in millionths" is the largest relative difference of depth over all pixels of two images. Goal: 100.
* Here it is float32 on a CPU, there float64, since rounding alone moves the deeper networks.
* "theirs in float32" is how far rounding moves the authors' code from itself in float64.
* "spread" is the standard deviation of the authors' inverse depth over its mean: no network answers a constant.
* CLONE is a clone of the authors' repository, at the revision in the table. Each row has its own command; the date and
  the revision below are those of the row that was measured last."""


def monodepth2(layers: int) -> dict[str, Any]:
    return pair(importlib.import_module("networks").ResnetEncoder(layers, False), 4)


def lite_mono(name: str, height: int, width: int) -> dict[str, Any]:
    return pair(importlib.import_module("networks").LiteMono(model=name, height=height, width=width), 3)


def pair(encoder: Any, scales: int) -> dict[str, Any]:
    decoder = importlib.import_module("networks").DepthDecoder
    return {"encoder": encoder, "depth": decoder(encoder.num_ch_enc, range(scales))}


def monovit() -> dict[str, Any]:
    import torch

    made_up: dict[str, dict[str, Any]] = {
        "mmcv.runner": dict(load_checkpoint=None, load_state_dict=lambda *_, **__: None),
        "mmcv.cnn": dict(build_norm_layer=lambda _, width: ("bn", torch.nn.BatchNorm2d(width))),
        "mmseg.utils": dict(get_root_logger=lambda: None),
        "mmseg.models.builder": dict(BACKBONES=types.SimpleNamespace(register_module=lambda: lambda kind: kind)),
    }
    for name, members in made_up.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)
    torch.load = lambda *_, **__: {"model": {}}  # it would start from ImageNet's weights
    networks = importlib.import_module("networks")
    return {"encoder": networks.mpvit_small(), "depth": networks.DepthDecoder()}


def depth_anything(encoder: str, features: int, channels: list[int]) -> dict[str, Any]:
    module = importlib.import_module("depth_anything_v2.dpt")
    return {"network": module.DepthAnythingV2(encoder=encoder, features=features, out_channels=channels)}


NETWORKS = {  # name: image size, and what makes the authors' modules, by the names of their files
    "monodepth2_resnet18": ((192, 640), partial(monodepth2, 18)),
    "monodepth2_resnet50": ((192, 640), partial(monodepth2, 50)),
    "lite_mono_tiny": ((320, 1024), partial(lite_mono, "lite-mono-tiny", 320, 1024)),
    "lite_mono_small": ((192, 640), partial(lite_mono, "lite-mono-small", 192, 640)),
    "lite_mono": ((192, 640), partial(lite_mono, "lite-mono", 192, 640)),
    "lite_mono_8m": ((192, 640), partial(lite_mono, "lite-mono-8m", 192, 640)),
    "monovit": ((192, 640), monovit),
    "depth_anything_v2_small": ((518, 518), partial(depth_anything, "vits", 64, [48, 96, 192, 384])),
    "depth_anything_v2_base": ((518, 518), partial(depth_anything, "vitb", 128, [96, 192, 384, 768])),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True, choices=NETWORKS)
    parser.add_argument("--code", required=True, type=pathlib.Path, help="clone of the authors' repository")
    parser.add_argument("--output", type=pathlib.Path, help="JSON file for docs/results; the network's row is added")
    options = parser.parse_args()
    sys.path.insert(0, str(options.code))
    size, build = NETWORKS[options.network]
    revision = subprocess.check_output(["git", "-C", options.code, "rev-parse", "--short", "HEAD"], text=True).strip()
    head = {"network": options.network, "their revision": revision, "images": f"2 x {size[0]}x{size[1]}"}
    row = head | compare(build(), size)
    print(markdown([row]))
    if options.output:
        known = json.loads(options.output.read_text())["rows"] if options.output.is_file() else []
        rows = {row["network"]: row for row in [*known, row]}
        ordered = [rows[name] for name in NETWORKS if name in rows]
        record(options.output, TITLE, ordered, NOTE, COMMAND.format(**vars(options)))


def compare(modules: dict[str, Any], size: tuple[int, int]) -> dict[str, float]:
    """The row of the authors' `modules`, by the names of their files, against what `load_model` reads of those."""
    import torch

    torch.manual_seed(0)
    images = torch.rand(2, 3, *size)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for part, module in modules.items():
            module.eval()
            draw(module)
            facts = dict(height=size[0], width=size[1], use_stereo=False) if part == "encoder" else {}
            torch.save(module.state_dict() | facts, f"{folder}/{part}.pth")
        model = load_model(f"{folder}/network.pth" if "network" in modules else folder)
    ours = np.asarray(model.inverse_depth(images.movedim(1, -1).numpy()))
    single = inverse_depth(modules, images)
    double = inverse_depth({part: in_double(module) for part, module in modules.items()}, images.double())
    return {
        "difference in millionths": difference(ours, double),
        "theirs in float32": difference(single, double),
        "spread": round(float(double.std() / double.mean()), 2),
    }


def draw(network: Any) -> None:
    """Gives a network weights and statistics that keep its features at an ordinary size."""
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.2)
        elif value.ndim > 1 and name.endswith("weight"):
            value.normal_(0, value[0].numel() ** -0.5)
        elif value.is_floating_point():
            value.uniform_(0.5, 1.5)
    if hasattr(network, "depth_head"):  # of Depth Anything: a positive answer everywhere, since depth is 1 over it
        last = network.depth_head.scratch.output_conv2[2]
        last.weight.abs_()
        last.bias.fill_(0.5)


def in_double(network: Any) -> Any:
    """The network in float64; Lite-Mono makes constants in float32 on its way, and they follow the weights."""
    for module in network.double().modules():
        module.register_forward_pre_hook(
            lambda _, inputs: tuple(x.double() if hasattr(x, "double") else x for x in inputs)
        )
    return network


def inverse_depth(modules: dict[str, Any], images: Any) -> np.ndarray:
    """What the authors' networks answer for images in [0, 1], of shape (2, height, width)."""
    import torch

    with torch.no_grad():
        if "network" in modules:
            mean, deviation = (images.new_tensor(colour)[:, None, None] for colour in (IMAGENET_MEAN, IMAGENET_STD))
            return modules["network"]((images - mean) / deviation).numpy()
        disparity = modules["depth"](modules["encoder"](images))["disp", 0][:, 0].numpy()
    return 0.01 + (10 - 0.01) * disparity  # depth from 0.1 to 100


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest relative difference of depth, in millionths."""
    return round(1e6 * float(np.max(np.abs(theirs / ours - 1))), 2)


if __name__ == "__main__":
    main()
