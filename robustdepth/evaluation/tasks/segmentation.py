"""Segmentation of unseen procedural worlds: intersection over union of the network that is the semantic expert."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8
from tqdm import tqdm

from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS, WORLD_SEED
from robustdepth.evaluation.report import save_report
from robustdepth.imaging.color import to_grey
from robustdepth.imaging.resize import resize_image
from robustdepth.models.build import build_segmentation_net
from robustdepth.paths import for_opencv
from robustdepth.runtime import distributed, sharding
from robustdepth.runtime.checkpoint import Weights
from robustdepth.runtime.distributed import is_first
from robustdepth.runtime.workdir import versions
from robustdepth.types import Array, PyTree
from robustdepth.world.solids import CLASSES, PALETTE

WORLD = "world"
SHOWN = 4  # worlds in pictures


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a confusion matrix says; entry [t, p] counts pixels of class t that were taken for class p."""

    confusion: Int[np.ndarray, "classes classes"]

    @property
    def iou(self) -> dict[str, float]:
        """TP / (TP + FP + FN) over all pixels of the set (Everingham et al., IJCV 2010), of the classes in it.

        A class that no pixel of the labels has is left out; where it is predicted, the true class misses those pixels.
        """
        right = np.diag(self.confusion)
        labelled, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        union = labelled + predicted - right
        return {name: float(right[i] / union[i]) for i, name in enumerate(CLASSES) if labelled[i]}

    @property
    def absent(self) -> list[str]:
        """The classes that no pixel of the labels has."""
        return [name for name in CLASSES if name not in self.iou]

    @property
    def metrics(self) -> dict[str, float]:
        """Mean IoU over the classes that are there, and the share of pixels that are right."""
        right = float(np.trace(self.confusion) / self.confusion.sum())
        return {"mean_iou": float(np.mean(list(self.iou.values()))), "accuracy": right}

    @property
    def baseline(self) -> Scores:
        """Those of the most frequent class everywhere."""
        labelled = self.confusion.sum(axis=1)
        confusion = np.zeros_like(self.confusion)
        confusion[:, labelled.argmax()] = labelled
        return Scores(confusion)


def confusion_matrix(
    labels: Int[np.ndarray, "*shape"], predicted: Int[np.ndarray, "*shape"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Counts [t, p] of pixels of class t that were taken for class p."""
    pairs = classes * labels.astype(np.int64).ravel() + predicted.ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def evaluate_segmentation(weights: Weights, output_folder: pathlib.Path, batch_size: int) -> Scores:
    """Scores a segmentation network on the worlds of protocol "world", at its own image size; writes the report.

    Logits are resized bilinearly to the images' size before the largest is taken.

    Raises:
      UserError: the weights hold no segmentation network, or the report cannot be written.
    """
    if "segmentation" not in weights.params:
        raise UserError(f"this checkpoint holds no segmentation network, only {sorted(weights.params)}.")
    count, started = PROTOCOLS[WORLD].count or 0, time.perf_counter()
    rows: list[np.ndarray] = []  # of the first worlds, which process 0 has
    batch_size = sharding.round_up(min(batch_size, count), jax.local_device_count())
    block = batch_size * -(-SHOWN // batch_size)

    def measure(own: range) -> list[list[list[int]]]:
        worlds, found = range(count)[own.start * block : own.stop * block], []
        with tqdm(total=len(worlds), desc="world segmentation", unit="image", disable=not is_first()) as progress:
            for images, labels, predicted in _predictions(weights, worlds, batch_size) if worlds else ():
                found.append(confusion_matrix(labels, predicted, len(CLASSES)).tolist())
                if len(rows) < SHOWN:
                    rows.extend(draw_row(*row) for row in zip(images, labels, predicted, strict=True))
                progress.update(len(images))
        return found

    scores = Scores(np.sum(distributed.shared(-(-count // block), measure), axis=0))
    seconds = time.perf_counter() - started
    distributed.on_first(lambda: _write_report(output_folder, scores, weights, count, seconds, rows[:SHOWN]))
    print(f"{_summary(scores, count, seconds)}\n\nreport: {output_folder / 'report.md'}")
    return scores


def _predictions(weights: Weights, worlds: range, batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Images, labels and predicted classes of some evaluation worlds, batch by batch."""
    from robustdepth.world.generate import render_examples, rendering_devices

    config = weights.config
    network, size = build_segmentation_net(config.model), tuple(config.image_size)
    mesh = sharding.make_mesh(config.sharding.axis, jax.local_devices())
    stats = weights.stats.get("segmentation", {})
    variables = {"params": weights.params["segmentation"], "batch_stats": stats}
    variables = jax.device_put(variables, sharding.replicated(mesh))
    for first in worlds[::batch_size]:
        indices = np.arange(first, first + batch_size)  # the last batch is rendered whole: one compilation
        batch, scene = render_examples(
            indices, seed=WORLD_SEED, split="evaluation", size=size, views=(), devices=rendering_devices()
        )
        images = jax.device_put(batch.target, sharding.batch_sharding(mesh))
        predicted = _classes(network, config.data.grey == 1, variables, images)
        wanted = min(batch_size, worlds.stop - first)
        yield tuple(np.asarray(x)[:wanted] for x in (batch.target, scene.labels[:, 0], predicted))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _classes(
    network: nn.Module, grey: bool, variables: PyTree, images: UInt8[Array, "batch height width 3"]
) -> Int[Array, "batch height width"]:
    seen = images.astype(jnp.float32)
    seen = (jnp.round(to_grey(seen)) if grey else seen) / 255.0
    output: Any = network.apply(variables, seen, train=False)
    return jnp.argmax(resize_image(output[0], images.shape[1:3]), axis=-1)


def draw_row(
    image: UInt8[np.ndarray, "height width 3"],
    labels: Int[np.ndarray, "height width"],
    predicted: Int[np.ndarray, "height width"],
) -> UInt8[np.ndarray, "height row_width 3"]:
    """Image, labels and prediction side by side, the classes in the colours of Cityscapes."""
    colors = np.array(PALETTE, np.uint8)
    return np.concatenate([image, colors[labels], colors[predicted]], axis=1)


def _summary(scores: Scores, count: int, seconds: float) -> str:
    rows = {"model": scores, "most frequent class": scores.baseline}
    lines = [
        f"{WORLD}: segmentation of unseen procedural worlds; {count} images",
        "",
        f"| {'IoU':19} | " + " | ".join(f"{name:>10}" for name in ("mean", *scores.iou, "accuracy")) + " |",
        "|" + "-" * 21 + "|" + "-----------:|" * (len(scores.iou) + 2),
    ]
    for name, row in rows.items():
        values = row.metrics["mean_iou"], *row.iou.values(), row.metrics["accuracy"]
        lines.append(f"| {name:19} | " + " | ".join(f"{value:10.3f}" for value in values) + " |")
    absent = f"The labels have no {', '.join(scores.absent)}: the mean is over the other classes. "
    return "\n".join([*lines, "", f"{absent if scores.absent else ''}{seconds:.1f} s with rendering and compiling."])


def _write_report(
    folder: pathlib.Path, scores: Scores, weights: Weights, count: int, seconds: float, rows: list[np.ndarray]
) -> None:
    config = weights.config
    model = {"name": config.name, "step": weights.step, "encoder": config.model.encoder}
    model |= {"image_size": list(config.image_size)}
    entry = {
        "title": "segmentation of unseen procedural worlds",
        "count": count,
        "metrics": scores.metrics,
        "baselines": {"most_frequent_class": scores.baseline.metrics},
        "iou": scores.iou,
        "absent": scores.absent,
        "confusion": scores.confusion.tolist(),
        "classes": list(CLASSES),
        "seconds": seconds,
    }
    facts = ", ".join(f"{key} {value}" for key, value in model.items())
    text = ["# Evaluation", facts, _summary(scores, count, seconds), "Image, labels, prediction:"]
    text.append("![image, labels, prediction](pictures/segmentation.png)")
    content = {"protocols": {WORLD: entry}, "model": model, "versions": versions()}
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write pictures in {folder} ({error.strerror}).") from error
    cv2.imwrite(for_opencv(folder / "pictures" / "segmentation.png"), np.concatenate(rows)[..., ::-1])
    save_report(folder, content, "\n\n".join(text) + "\n")
