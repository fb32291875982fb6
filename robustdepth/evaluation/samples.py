"""The images and ground truth of a protocol, read or rendered when they are needed."""

from __future__ import annotations

import contextlib
import threading
import typing
from collections.abc import Sequence

import jax
import numpy as np

from robustdepth.errors import BadFile, UserError
from robustdepth.evaluation.protocols import WORLD_SEED, Protocol
from robustdepth.types import EvalSample


@typing.runtime_checkable
class Samples(typing.Protocol):
    """Random access to the frames of an evaluation, safe to use from threads."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> EvalSample: ...


def first_name(samples: Samples) -> str:
    """The name of the first sample that can be read. Raises BadFile where none can."""
    for index in range(len(samples) - 1):
        with contextlib.suppress(BadFile):
            return samples[index].name
    return samples[len(samples) - 1].name


def protocol_samples(
    protocol: Protocol,
    *,
    data_root: str = "",
    split: str = "",
    drives: Sequence[str] = (),
    size: tuple[int, int] | None = None,
) -> Samples:
    """The samples of `protocol`; `size` is the model's, for rendered worlds.

    Raises UserError where the protocol needs something that was not given, or the recordings hold no such frame.
    """
    if protocol.truth == "world":
        if size is None:
            raise UserError(
                f"protocol {protocol.name} renders at the model's own size: give --workdir or --checkpoint."
            )
        return WorldSamples(protocol.count or 0, size)
    if protocol.truth == "dataset":
        return _dataset_samples(protocol, data_root, split, drives)
    if not data_root:
        raise UserError(f"protocol {protocol.name} needs --data_root=FOLDER with the KITTI raw recordings.")
    if protocol.count and not split:
        raise UserError(f"protocol {protocol.name} needs --split=FILE, the list of its {protocol.count} test frames.")
    from robustdepth.data.recordings.kitti_raw import lidar_samples

    samples = lidar_samples(data_root, drives=tuple(drives), split=split, improved=protocol.truth == "improved")
    if not len(samples):
        raise UserError(f"no frame with ground truth found under {data_root} for protocol {protocol.name}.")
    return samples


def _dataset_samples(protocol: Protocol, data_root: str, split: str, drives: Sequence[str]) -> Samples:
    """The frames of a public dataset, as its publishers pack it or as `prepare evaluation` does."""
    from robustdepth.data.benchmarks.datasets import DATASETS, open_condition
    from robustdepth.data.benchmarks.packed import is_packed, open_packed

    if not data_root:
        where = DATASETS[protocol.dataset].layout
        raise UserError(f"protocol {protocol.name} needs --data_root=FOLDER, which holds {where}.")
    if drives:
        raise UserError(f"protocol {protocol.name} has no drives: choose frames with --split, or leave --drives out.")
    if is_packed(data_root, protocol.name):
        if split:
            raise UserError(f"{data_root} is packed with its own choice of frames: leave --split={split} out.")
        return open_packed(data_root, protocol.name)
    return open_condition(protocol.name, data_root, split)


class WorldSamples:
    """Target views of the first `count` evaluation worlds, rendered a few at a time: four on each device."""

    def __init__(self, count: int, size: tuple[int, int]):
        from robustdepth.world.generate import rendering_devices

        self.size, self.chunk = size, 4 * len(rendering_devices())
        self._count = count
        self._lock = threading.Lock()
        # Rendered now, so that the renderer's compilation is not taken for evaluation time.
        self._chunks: dict[int, list[EvalSample]] = {0: self._render(0)} if count else {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> EvalSample:
        if not 0 <= index < self._count:
            raise IndexError(index)
        with self._lock:  # threads ask for neighbours at once; one of them renders
            chunk = index // self.chunk
            if chunk not in self._chunks:
                if len(self._chunks) >= 8:
                    self._chunks.pop(next(iter(self._chunks)))
                self._chunks[chunk] = self._render(chunk * self.chunk)
            return self._chunks[chunk][index % self.chunk]

    def _render(self, first: int) -> list[EvalSample]:
        from robustdepth.world.generate import render_examples, rendering_devices

        indices, devices = np.arange(first, first + self.chunk), rendering_devices()
        batch, scene = render_examples(
            indices, seed=WORLD_SEED, split="evaluation", size=self.size, views=(), devices=devices
        )
        images, depths, cameras = jax.device_get((batch.target, scene.depth[:, 0], batch.camera))
        return [
            EvalSample(images[i], depths[i], jax.tree.map(lambda leaf, i=i: leaf[i], cameras), f"world_{first + i:05d}")
            for i in range(self.chunk)
        ]
