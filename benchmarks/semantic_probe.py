"""What a depth network's features tell of classes: python -m benchmarks.semantic_probe WORKDIR... [--output=FILE].

A linear classifier (ridge regression on one-hot classes) reads the class of every cell of the decoder's features at
the stride that the expert teaches. It learns on training worlds and is scored on others, clear and corrupted (severity
3), by the mean intersection over union of the classes that occur; the expert's own features are the first row. AbsRel
in metres on the same worlds stands beside it: whether what was learned of classes does depth any good.
"""

import argparse
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.results import markdown, record
from robustdepth.conditions.corruptions.benchmark import corrupt, corruption_keys
from robustdepth.errors import run_main
from robustdepth.imaging.resize import resize_map
from robustdepth.models.build import build_depth_net
from robustdepth.runtime import sharding
from robustdepth.runtime.inference import load_model
from robustdepth.teachers.experts import load_expert
from robustdepth.world.generate import render_examples

FIT, TEST, BATCH, SEED = 96, 64, 8, 777  # worlds to learn on, to be scored on, at once; seed of both
CORRUPTIONS, SEVERITY = ("gaussian", "fog", "contrast"), 3
FARTHEST = 80.0  # metres
Features = Callable[[jax.Array], jax.Array]  # float images to [batch, rows, columns, channels]


class Worlds(NamedTuple):
    images: np.ndarray  # uint8 [world, height, width, 3]
    labels: np.ndarray  # [world, height, width]
    depth: np.ndarray  # metres


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdirs", nargs="+", type=pathlib.Path)
    parser.add_argument("--output", help="JSON file for docs/results")
    options = parser.parse_args()
    models = [load_model(path) for path in options.workdirs]
    config, size = models[0].config, models[0].image_size
    fit, test = worlds(0, FIT, size), worlds(FIT, TEST, size)
    seen = {"clear": test.images} | {name: corrupted(test.images, name) for name in CORRUPTIONS}
    expert = load_expert(config.semantics, size, sharding.make_mesh(config.sharding.axis))
    stride = config.semantics.stride
    rows = [{"network": f"expert ({expert.name})"} | probe(expert.look, fit, test, seen, stride)]
    for path, model in zip(options.workdirs, models, strict=True):
        network, variables = build_depth_net(model.config.model), model.variables["depth"]
        look = jax.jit(lambda x, n=network, v=variables: n.apply(v, x, train=False).decoded[stride])
        errors = {f"AbsRel {name}": abs_rel(model.inverse_depth, images, test.depth) for name, images in seen.items()}
        rows.append({"network": "/".join(path.parts[-2:])} | probe(look, fit, test, seen, stride) | errors)
    print(markdown(rows))
    if options.output:
        record(options.output, "What features tell of classes, and what depth gains", rows)


def worlds(first: int, count: int, size: tuple[int, int]) -> Worlds:
    """Worlds of the training split that no training of another seed has seen."""
    parts = []
    for index in range(first, first + count, BATCH):
        numbers = index + np.arange(BATCH)
        batch, truth = render_examples(numbers, seed=SEED, split="train", size=size, views=("stereo",))
        parts.append(jax.device_get((batch.target, truth.labels[:, 0], truth.depth[:, 0])))
    return Worlds(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def corrupted(images: np.ndarray, name: str) -> np.ndarray:
    """The images under one corruption."""
    return in_batches(
        lambda part, first: corrupt(
            jnp.asarray(part), name, SEVERITY, corruption_keys(name, SEVERITY, range(first, first + len(part)))
        ),
        images,
    )


def in_batches(function: Callable[[np.ndarray, int], jax.Array], images: np.ndarray) -> np.ndarray:
    """`function(images, index of the first)` of all images, few at a time."""
    return np.concatenate([np.asarray(function(images[i : i + BATCH], i)) for i in range(0, len(images), BATCH)])


def as_float(images: np.ndarray) -> jax.Array:
    return jnp.asarray(images, jnp.float32) / 255.0


def probe(look: Features, fit: Worlds, test: Worlds, seen: dict[str, np.ndarray], stride: int) -> dict[str, float]:
    """mIoU of the linear classifier by what the images went through."""
    rows, columns = (length // stride for length in fit.labels.shape[1:])

    def features(images: np.ndarray) -> np.ndarray:
        maps = in_batches(lambda part, _: look(as_float(part)), images)
        if maps.shape[1:3] != (rows, columns):  # an expert's, of another stride
            maps = np.moveaxis(np.asarray(resize_map(jnp.moveaxis(jnp.asarray(maps), -1, 1), (rows, columns))), 1, -1)
        return maps.reshape(-1, maps.shape[-1])

    def classes(labels: np.ndarray) -> np.ndarray:
        return labels[:, stride // 2 :: stride, stride // 2 :: stride].reshape(-1)

    inputs, wanted = features(fit.images), np.eye(int(fit.labels.max()) + 1)[classes(fit.labels)]
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0) + 1e-6

    def standard(inputs: np.ndarray) -> np.ndarray:
        return np.c_[(inputs - mean) / spread, np.ones(len(inputs))]

    learned = standard(inputs)
    weights = np.linalg.solve(learned.T @ learned + np.eye(learned.shape[1]), learned.T @ wanted)
    truth = classes(test.labels)
    return {
        f"mIoU {name}": mean_iou((standard(features(images)) @ weights).argmax(axis=1), truth)
        for name, images in seen.items()
    }


def mean_iou(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the classes that occur of intersection over union."""
    shares = [((found == k) & (truth == k)).sum() / ((found == k) | (truth == k)).sum() for k in np.unique(truth)]
    return round(float(np.mean(shares)), 3)


def abs_rel(inverse_depth: Features, images: np.ndarray, depth: np.ndarray) -> float:
    """Mean of |D - D*| / D* in metres, as it stands, up to `FARTHEST`."""
    found = np.clip(1.0 / in_batches(lambda part, _: inverse_depth(as_float(part)), images), 1e-3, FARTHEST)
    near = depth < FARTHEST
    return round(float(np.mean(np.abs(found - depth)[near] / depth[near])), 3)


if __name__ == "__main__":
    run_main(main)
