"""The sub-command `proxies` of `robustdepth.prepare`: disparities of a recording's pairs, by a chosen method."""

import argparse
import functools
import hashlib
import pathlib
from typing import Any

import jax
import numpy as np

from robustdepth.data.source import RECORDINGS
from robustdepth.data.stereo.proxies import LARGEST
from robustdepth.data.stereo.sgm import SETTINGS, Answer, sgm_pair
from robustdepth.errors import UserError
from robustdepth.geometry.depth import disparity_range
from robustdepth.runtime import sharding
from robustdepth.runtime.inference import DepthModel, load_model
from robustdepth.teachers.depth_teacher import DepthTeacher
from robustdepth.teachers.proxy_writer import Match, Method, stereo_pairs, write_proxies
from robustdepth.teachers.stereo_teacher import StereoTeacher, load_teacher

SGM, DEPTH = "sgm", "depth:"
SMALLEST = 32  # pixels of height and width


def add_proxies_command(commands: Any) -> None:
    """Adds `proxies` to the sub-commands of `robustdepth.prepare`; `arguments.run(arguments)` runs it."""
    command = commands.add_parser("proxies", help="write the disparities of a recording's stereo pairs")
    command.add_argument("--source", required=True, help="the recording's folder")
    command.add_argument("--data", choices=RECORDINGS, default="frames", help="its layout (frames: your own footage)")
    command.add_argument("--output", required=True, help="folder for the proxies")
    command.add_argument(
        "--method",
        required=True,
        help='"sgm"; the workdir or weight file of a stereo network; or that of a depth network, as depth:PATH',
    )
    command.add_argument("--height", type=int, default=0, help="match images of this size; else of their own")
    command.add_argument("--width", type=int, default=0, help="see --height")
    command.add_argument(
        "--max_disparity", type=int, default=0, help="of matching, pixels; else 192 of 1242, in proportion"
    )
    command.add_argument("--sequences", nargs="*", default=(), help="only these drives, sequences or clips")
    command.add_argument("--split", default="", help="only the pairs of these frames: lines 'folder frame l|r'")
    command.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    size = arguments.height, arguments.width
    if any(size) and min(size) < SMALLEST:
        raise UserError(f"give both --height and --width, of {SMALLEST} or more, or neither.")
    recording, pairs = stereo_pairs(arguments.data, arguments.source, arguments.split, arguments.sequences)
    wanted = size if any(size) else None
    method = make_method(arguments.method, wanted or pairs[0].left.camera.size, arguments.max_disparity)
    print(write_proxies(recording, pairs, arguments.output, method, wanted))


def make_method(name: str, size: tuple[int, int], max_disparity: int = 0) -> Method:
    """Semi-global matching ("sgm"), the depth network of "depth:PATH", or the stereo network at the path `name`.

    Args:
      size: height and width of the first pair.
      max_disparity: pixels, where semi-global matching is part of the method; 0: the usual range.

    Raises:
      UserError: unknown method, no such network there, or a range that a proxy cannot hold.
    """
    if not name.removeprefix(DEPTH):
        raise UserError(f'--method={name} names no network: give "{SGM}", PATH or {DEPTH}PATH.')
    if max_disparity and name != SGM and not name.startswith(DEPTH):
        raise UserError(
            f"--max_disparity is for {SGM} and {DEPTH}...: a stereo network's range is that of its training."
        )
    if not 0 <= max_disparity <= LARGEST:
        raise UserError(f"--max_disparity={max_disparity} must lie between 1 and {int(LARGEST)} pixels.")
    if name == SGM:
        settings = [setting._asdict() for setting in SETTINGS]
        identity: dict[str, Any] = {"name": SGM, "settings": settings, "max_disparity": max_disparity}
        return Method(identity, functools.partial(_sgm, max_disparity), parallel=True)
    if name.startswith(DEPTH):
        model = load_model(name.removeprefix(DEPTH))
        identity = {"name": "depth_net", "checkpoint": _fingerprint(model), "max_disparity": max_disparity}
        return Method(identity, functools.partial(_aligned, model, max_disparity), parallel=False)
    if not pathlib.Path(name).exists():
        raise UserError(
            f'--method={name} is neither "{SGM}" nor the workdir or weight file of a stereo network; '
            f"that of a depth network is given as {DEPTH}PATH."
        )
    load = functools.cache(functools.partial(_load, name))
    identity = {"name": "stereo_net", "checkpoint": _fingerprint(load(size[1]))}
    return Method(identity, lambda size: _network(load(size[1])), parallel=False)


def _sgm(max_disparity: int, size: tuple[int, int]) -> Match:
    return functools.partial(sgm_pair, max_disparity=disparity_range(size[1], max_disparity))


def _aligned(model: DepthModel, max_disparity: int, size: tuple[int, int]) -> Match:
    return DepthTeacher(model, disparity_range(size[1], max_disparity)).match


def _load(path: str, width: int) -> StereoTeacher:
    return load_teacher(path, (SMALLEST, width), sharding.make_mesh("data"))  # its range depends on the width alone


def _network(teacher: StereoTeacher) -> Match:
    def look(target: np.ndarray, source: np.ndarray, baseline: float) -> Answer:
        seen = teacher.look(target[None], source[None], np.array([baseline], np.float32))
        return np.asarray(seen.disparity[0]), np.asarray(seen.failed[0])

    return lambda left, right: (look(left, right, 1.0), look(right, left, -1.0))


def _fingerprint(teacher: StereoTeacher | DepthModel) -> str:
    """SHA-256 of the network's variables."""
    digest = hashlib.sha256(repr(jax.tree.structure(teacher.variables)).encode())
    for leaf in jax.tree.leaves(teacher.variables):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
