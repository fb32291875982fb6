"""Evaluation under rendered weather: the frames and ground truth of a protocol, seen through fog, rain or night."""

from __future__ import annotations

import dataclasses
import functools

import cv2
import jax
import numpy as np
from jaxtyping import Float, UInt8

from robustdepth.conditions.spec import Spec, parse, render_condition
from robustdepth.evaluation.protocols import Protocol
from robustdepth.evaluation.samples import Samples
from robustdepth.types import Array, Camera, EvalSample

FAR = 100.0  # metres: what lies above the highest return of a scanner
SEED = 0


def under_weather(protocol: Protocol, spec: str) -> Protocol:
    """The protocol with the weather in its name, so that its numbers are never taken for those of clear frames."""
    return dataclasses.replace(protocol, name=f"{protocol.name}[{spec}]", title=f"{protocol.title}, under {spec}")


class WeatherSamples:
    """Samples under the conditions of a spec (`conditions.spec`); a frame looks the same in every evaluation.

    Conditions follow the ground truth, completed where it is sparse.

    Raises UserError for a spec that cannot be read.
    """

    def __init__(self, samples: Samples, spec: str):
        self._samples, self._spec = samples, parse(spec)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> EvalSample:
        sample = self._samples[index]
        height, width = sample.image.shape[:2]
        depth = complete(cv2.resize(sample.depth, (width, height), interpolation=cv2.INTER_NEAREST))
        image = _render(self._spec, sample.image[None], depth[None], sample.camera, np.int32(index))
        return dataclasses.replace(sample, image=np.asarray(image[0]))


@functools.partial(jax.jit, static_argnums=0)
def _render(
    spec: Spec,
    images: UInt8[Array, "1 height width 3"],
    depth: Float[Array, "1 height width"],
    camera: Camera,
    index: Array,
) -> UInt8[Array, "1 height width 3"]:
    key = jax.random.fold_in(jax.random.key(SEED), index)
    batched = Camera(camera.focal[None], camera.center[None], camera.size)
    image, _ = render_condition(spec, images.astype(np.float32) / 255.0, depth, batched, key)
    return (image * 255.0 + 0.5).astype(np.uint8)


def complete(depth: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Dense depth from sparse: unknown pixels (0) take the nearest known one's, but `FAR` above all of their column.

    A column without any known pixel follows its neighbours.
    """
    known = depth > 0
    if known.all() or not known.any():
        return np.where(known, depth, FAR).astype(np.float32)
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value = np.zeros(labels.max() + 1, np.float32)
    value[labels[known]] = depth[known]
    columns = np.flatnonzero(known.any(axis=0))
    top = np.interp(np.arange(depth.shape[1]), columns, known[:, columns].argmax(axis=0))
    above = np.arange(depth.shape[0])[:, None] < np.floor(top)[None]
    return np.where(above, np.float32(FAR), value[labels])
