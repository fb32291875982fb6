"""What student and expert see of unseen worlds, clear, with changed texture and under weather, as one picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from robustdepth.conditions.spec import parse, render_condition
from robustdepth.geometry.depth import disparity_to_inverse_depth
from robustdepth.imaging.colormap import ColorRange, colorize
from robustdepth.methods import texture
from robustdepth.methods.augment import Views, to_float
from robustdepth.models.build import build_depth_net
from robustdepth.prediction.sheet import contact_sheet
from robustdepth.runtime import sharding
from robustdepth.runtime.inference import DepthModel, load_model
from robustdepth.teachers.experts import load_expert

SEED = 1  # of the worlds
Maps = Mapping[str, np.ndarray]  # row -> [image, rows, columns, channels]


def feature_sheet(checkpoint: str, scenes: Sequence[int], conditions: Sequence[str]) -> Image.Image:
    """One row for each state of the scenes: clear, changed texture, and each condition.

    A row shows for every scene the image, the student's features, the expert's features, and the depth.

    Args:
      checkpoint: a depth network.
      scenes: indices of evaluation worlds.
      conditions: weather, see conditions.spec; rendered at severity 0.7.

    Raises:
      UserError: no such network, expert or condition.
    """
    model = load_model(checkpoint)
    config = model.config
    expert = load_expert(config.semantics, model.image_size, sharding.make_mesh(config.sharding.axis))
    images = states(model, scenes, conditions)
    network, variables = build_depth_net(config.model), model.variables["depth"]
    look = jax.jit(lambda image: network.apply(variables, image, train=False))
    outputs: dict[str, Any] = {name: look(image) for name, image in images.items()}
    student = principal_colors({name: out.decoded[config.semantics.stride] for name, out in outputs.items()})
    teacher = principal_colors({name: expert.look(image) for name, image in images.items()})
    depth_range = config.model.min_depth, config.model.max_depth
    inverse = {
        name: np.asarray(disparity_to_inverse_depth(out.disparities[0], *depth_range)) for name, out in outputs.items()
    }
    shown = ColorRange.of(inverse["clear"])
    rows = {}
    for name, image in images.items():
        pictures = [
            np.asarray(Image.fromarray(picture).resize(model.image_size[::-1], Image.Resampling.NEAREST))
            for i in range(len(scenes))
            for picture in (
                (255 * np.asarray(image[i]) + 0.5).astype(np.uint8),
                student[name][i],
                teacher[name][i],
                colorize(inverse[name][i], shown),
            )
        ]
        rows[name] = np.concatenate(pictures, axis=1) / 255.0
    return contact_sheet(rows)


def states(model: DepthModel, scenes: Sequence[int], conditions: Sequence[str]) -> dict[str, jax.Array]:
    """The same worlds clear, with all changes of texture at full strength, and under each condition."""
    from robustdepth.world.generate import render_examples

    config = model.config.copy_and_resolve_references()
    config.texture.update(dict.fromkeys(texture.CHANGES, 1.0))
    size = model.image_size
    batch, truth = render_examples(np.array(scenes), seed=SEED, split="evaluation", size=size, views=())
    batch = to_float(batch)
    images = {"clear": batch.target}
    last = jnp.int32(config.optimizer.steps)
    seen = Views(batch, batch.target, batch.sources)
    images["texture"] = texture.view(texture.Settings.of(config), seen, None, jax.random.key(0), last)
    for name in conditions:
        spec, depth = parse(f"{name}(0.7-0.7)"), truth.depth[:, 0]
        images[name], _ = render_condition(spec, batch.target, depth, batch.camera, jax.random.key(1))
    return images


def principal_colors(features: Mapping[str, Float[Any, "image rows columns channels"]]) -> dict[str, np.ndarray]:
    """The first three principal components over all maps as red, green and blue, UInt8 [image, rows, columns, 3]."""
    maps: Maps = {name: np.asarray(values) for name, values in features.items()}
    every = np.concatenate([values.reshape(-1, values.shape[-1]) for values in maps.values()])
    middle = every.mean(0)
    _, _, axes = np.linalg.svd(every - middle, full_matrices=False)
    projected = {name: (values - middle) @ axes[:3].T for name, values in maps.items()}
    low, high = np.percentile((every - middle) @ axes[:3].T, (2, 98), axis=0)

    def color(values: np.ndarray) -> UInt8[np.ndarray, "image rows columns 3"]:
        return np.round(255 * np.clip((values - low) / np.maximum(high - low, 1e-12), 0, 1)).astype(np.uint8)

    return {name: color(values) for name, values in projected.items()}
