"""Protocol `masks`: how often a selectively distilled network trusts the better of two depths, where truth is known.

At every pixel of an unseen procedural world there are two depths: the proxy of a stereo method and the network's own.
Where their errors differ clearly, the mask is right if it takes the better one (METHOD.md section 6).
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS, WORLD_SEED
from robustdepth.evaluation.report import REPORT
from robustdepth.evaluation.tasks.mask_scores import (
    CLEAR,
    Choice,
    Counts,
    Scores,
    count_choices,
    draw_row,
    merge_counts,
)
from robustdepth.geometry.depth import disparity_range
from robustdepth.imaging.color import to_grey
from robustdepth.methods import selective
from robustdepth.methods.augment import to_float
from robustdepth.models.build import build_main_net
from robustdepth.paths import for_opencv
from robustdepth.runtime import distributed, sharding
from robustdepth.runtime.distributed import is_first
from robustdepth.runtime.inference import DepthModel
from robustdepth.runtime.workdir import versions
from robustdepth.types import STEREO, Batch, PyTree

MASKS = "masks"
SHOWN = 4  # worlds in pictures


def evaluate_masks(model: DepthModel, output_folder: pathlib.Path, batch_size: int) -> Scores:
    """Scores the masks of a network that `check_selective` accepts, on the worlds of protocol `world`; writes a report.

    Raises:
      UserError: the teacher is not to be found, no proxy is known anywhere, or the report cannot be written.
    """
    count, started = PROTOCOLS["world"].count or 0, time.perf_counter()
    rows: list[np.ndarray] = []  # of the first worlds, which process 0 has
    batch_size = sharding.round_up(min(batch_size, count), jax.local_device_count())
    block = batch_size * -(-SHOWN // batch_size)

    def measure(own: range) -> list[Counts]:
        worlds, counts = range(count)[own.start * block : own.stop * block], []
        with tqdm(total=len(worlds), desc="masks in the world", unit="image", disable=not is_first()) as progress:
            for image, truth, choice in _choices(model, worlds, batch_size) if worlds else ():
                counts.append(count_choices(truth, choice))
                if len(rows) < SHOWN:
                    rows.append(draw_row(image, truth, choice))
                progress.update()
        return counts

    counts = [Counts(*row) for row in distributed.shared(-(-count // block), measure)]
    scores, seconds = merge_counts(counts), time.perf_counter() - started
    distributed.on_first(lambda: _write_report(output_folder, scores, model, len(counts), seconds, rows))
    print(f"{_summary(scores, model, len(counts), seconds)}\n\nreport: {output_folder / 'report.md'}")
    return scores


def check_selective(model: DepthModel) -> None:
    """Raises UserError where there are no masks to evaluate, or no proxies of the worlds."""
    config = model.config
    if STEREO not in config.data.views or not config.loss.proxy:
        raise UserError(f"{model.path} learned from no stereo proxies (config.loss.proxy=0): it has no masks.")
    if config.selective.proxy in ("files", "truth"):
        stored = config.selective.proxy == "files"
        why = "stored proxies, and the worlds have none" if stored else "true depth, which no mask can better"
        raise UserError(
            f"{model.path} learned from {why}: protocol {MASKS} evaluates models with "
            'config.selective.proxy="stereo_net" or "sgm".'
        )


def proxies_for(config: ConfigDict) -> Callable[[Batch], Batch]:
    """What adds the proxies to a batch that taught such a network. Raises UserError where the teacher is not found."""
    size = tuple(config.image_size)
    if config.selective.proxy == "sgm":
        from robustdepth.data.stereo.sgm import add_sgm

        limit = disparity_range(size[1], config.stereo.max_disparity)
        return lambda batch: add_sgm(jax.device_get(batch), limit)
    from robustdepth.teachers.stereo_teacher import load_teacher

    return load_teacher(config.selective.teacher, size, local_mesh(config)).teach


def local_mesh(config: ConfigDict) -> Mesh:
    """The devices of this process, which looks at worlds of its own."""
    return sharding.make_mesh(config.sharding.axis, jax.local_devices())


def _choices(model: DepthModel, worlds: range, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray, Choice]]:
    """Image, true depth and choice of some evaluation worlds, one by one."""
    from robustdepth.world.generate import render_examples, rendering_devices

    config, add_proxies = model.config, proxies_for(model.config)
    mesh = local_mesh(config)
    places = sharding.batch_sharding(mesh)
    network, variables = build_main_net(config), jax.device_put(model.variables["depth"], sharding.replicated(mesh))
    chosen = jax.jit(lambda variables, batch: choose(network, config, variables, batch))
    for first in worlds[::batch_size]:
        indices = np.arange(first, first + batch_size)  # the last batch is rendered whole: one compilation
        size, devices = model.image_size, rendering_devices()
        batch, scene = render_examples(
            indices, seed=WORLD_SEED, split="evaluation", size=size, views=(STEREO,), devices=devices
        )
        choice = jax.device_get(chosen(variables, jax.device_put(add_proxies(batch), places)))
        for i in range(min(batch_size, worlds.stop - first)):
            yield np.asarray(batch.target[i]), np.asarray(scene.depth[i, 0]), Choice(*(part[i] for part in choice))


def choose(network: nn.Module, config: ConfigDict, variables: PyTree, batch: Batch) -> Choice:
    """Both depths of a batch that has proxies, and who takes which; masks have no noise here."""
    batch, size = to_float(batch), batch.camera.size
    settings = selective.Settings.of(config)
    seen = jnp.round(to_grey(batch.target) * 255.0) / 255.0 if config.data.grey == 1 else batch.target
    output: Any = network.apply(variables, seen, train=False)
    proxy, known = selective.proxy_depth(batch, settings.depths)
    own = settings.depths.full_depth(output.disparities[0], size)
    errors = selective.source_errors(batch, proxy, known, own, settings.ssim_share)
    mask = selective.binary_masks(selective.mask_logits(output, settings.mode, size), errors, settings.mode)
    argmin = selective.binary_masks(None, errors, selective.ARGMIN)
    return Choice(proxy, own, known, mask.proxy > 0.5, argmin.proxy > 0.5)


def _summary(scores: Scores, model: DepthModel, count: int, seconds: float) -> str:
    metrics, chosen = scores.metrics, model.config.selective
    right = {name: metrics[f"right_{name}"] for name in scores.right}
    said = {name: "none" if value is None else f"{value:.1%}" for name, value in (right | metrics).items()}
    lines = [
        f"{MASKS}: unseen procedural worlds; {count} images; proxies {chosen.proxy}, masks {chosen.mask}",
        "",
        f"| {'source':12} | better one taken |  abs_rel |",
        "|--------------|-----------------:|---------:|",
    ]
    rows = {"mask": "mask", "argmin": "argmin", "always proxy": "proxy", "always own": "own", "truly better": "best"}
    of_row = {"mask": "mask", "argmin": "argmin", "always proxy": "always_proxy"}
    for name, error in rows.items():
        taken = said[of_row[name]] if name in of_row else ""
        lines.append(f"| {name:12} | {taken:>16} | {scores.abs_rel[error]:8.3f} |")
    return "\n".join(
        [
            *lines,
            "",
            f"The better one is counted where the errors, relative to truth, differ by more than {CLEAR:.0%}: "
            f"{said['clear']} of the pixels with a proxy. {said['proxy_known']} of all with true depth have one; the "
            f"masks take {said['mask_proxy']} of them. {seconds:.1f} s with rendering and compiling.",
        ]
    )


def _write_report(
    folder: pathlib.Path, scores: Scores, model: DepthModel, count: int, seconds: float, rows: list[np.ndarray]
) -> None:
    config = model.config
    facts = {"name": config.name, "step": model.step, "encoder": config.model.encoder, "path": model.path}
    facts |= {"image_size": list(config.image_size), "proxy": config.selective.proxy, "mask": config.selective.mask}
    entry = {"title": "choice of the better source in unseen procedural worlds", "count": count}
    entry |= {"metrics": scores.metrics, **dataclasses.asdict(scores), "seconds": seconds}
    caption = "Image, proxy, own depth, the truly better source, the chosen one (orange: proxy, blue: own depth):"
    text = ["# Evaluation", ", ".join(f"{key} {value}" for key, value in facts.items())]
    text += [_summary(scores, model, count, seconds), caption, "![choice of sources](pictures/masks.png)"]
    content = {"protocols": {MASKS: entry}, "model": facts, "versions": versions()}
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(for_opencv(folder / "pictures" / "masks.png"), np.concatenate(rows)[..., ::-1])
        (folder / "report.md").write_text("\n\n".join(text) + "\n", encoding="utf-8", errors="backslashreplace")
        (folder / REPORT).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write the report in {folder} ({error.strerror}).") from error
