"""The endless stream of training batches, whose order is a pure function of (seed, step)."""

import dataclasses
import sys
import time

import grain
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from robustdepth.data.expert_cache import ExpertCache
from robustdepth.data.images import BadImage
from robustdepth.data.source import (
    FILES,
    SGM,
    TRUTH,
    Example,
    Source,
    build_source,
    disparity_from,
    world_count,
)
from robustdepth.data.stereo.sgm import add_sgm
from robustdepth.errors import UserError
from robustdepth.geometry.depth import disparity_range, stereo_disparity
from robustdepth.switches import uses_truth
from robustdepth.types import Batch, Camera


def train_stream(
    config: ConfigDict, shard: int = 0, shards: int = 1, expert_cache: ExpertCache | None = None
) -> "Stream":
    """The batches that `config` describes; with several hosts, the part of every batch that belongs to host `shard`.

    Where an expert's features of the recordings are cached, batches hold them.

    Raises UserError where the recordings cannot be opened.
    """
    stream = Stream(config, shard, shards, expert_cache)
    if config.batch_size % shards or stream.world_count % shards:
        raise UserError(
            f"batch_size {config.batch_size}, of it {stream.world_count} rendered, cannot be divided by {shards} "
            "hosts; choose multiples (config.batch_size, config.data.world_share)."
        )
    if config.data.name != "none" and stream.world_count == config.batch_size:
        logging.warning(
            "config.data.world_share=1 renders every image: nothing of config.data.root=%s is read.", config.data.root
        )
    return stream


def batch_shapes(config: ConfigDict) -> Batch:
    """What the batches of a config look like, as ShapeDtypeStructs, without any recording; caches are left out."""
    size, views, proxy = tuple(config.image_size), tuple(config.data.views), disparity_from(config)

    def leaf(dtype: type, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((config.batch_size, *shape), dtype)

    return Batch(
        target=leaf(np.uint8, *size, 3),
        sources=leaf(np.uint8, len(views), *size, 3),
        source_valid=leaf(np.bool_, len(views)),
        camera=Camera(leaf(np.float32, 2), leaf(np.float32, 2), size),
        baseline=leaf(np.float32),
        speed=leaf(np.float32, len(views)),
        index=leaf(np.int32),
        source_names=views,
        labels=leaf(np.int32, *size) if config.task == "segmentation" else None,
        depth=leaf(np.float32, *size) if uses_truth(config) else None,
        motion=leaf(np.float32, len(views), 4, 4) if uses_truth(config) else None,
        disparity=leaf(np.float32, *size) if proxy else None,
        disparity_failed=leaf(np.bool_, *size) if proxy in (SGM, FILES) else None,
    )


class Stream:
    """Iterator over `Batch`es of uint8 images: recordings first, then the procedural world's `data.world_share`.

    Each of several hosts gets an equal share of both parts, the rows that follow those of the host before it.
    Recordings are shuffled anew in every epoch. A batch depends on (seed, step) alone, not on threads or on what was
    read before, so the state is the step, with the examples taken so far: the order goes on with the next ones when
    the batch gets another size. An unreadable image is replaced by the next example that can be read.
    """

    def __init__(
        self,
        config: ConfigDict,
        shard: int = 0,
        shards: int = 1,
        expert_cache: ExpertCache | None = None,
        source: Source | None = None,
    ):
        """As `train_stream` says; the recordings' examples come from `source` where one is given."""
        self._config, self._shard, self._shards, self._expert_cache = config, shard, shards, expert_cache
        self.world_count = world_count(config)
        self._count = config.batch_size - self.world_count
        self._source = (source or build_source(config)) if self._count else None
        self._bad: set[str] = set()
        self.seconds_waited = 0.0  # for recordings to be read; rendering is computing, not waiting
        self.set_state({"step": 0})

    @property
    def bad_images(self) -> int:
        """How many different images could not be read so far."""
        return len(self._bad)

    def get_state(self) -> dict[str, int]:
        """What `set_state` needs to go on from here: how many batches and examples of each part were taken."""
        return {"step": self._step, "recorded": self._recorded_taken, "rendered": self._rendered_taken}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes on as if `state["step"]` batches had been taken; of this size, where the examples were not counted."""
        self._step = state["step"]
        self._recorded_taken = state.get("recorded", self._step * self._count)
        self._rendered_taken = state.get("rendered", self._step * self.world_count)
        if self._source is not None:
            self._examples = iter(self._dataset(self._source).to_iter_dataset(self._read_options()))

    def close(self) -> None:
        """Ends the reading ahead; no batch can be taken any more."""
        if self._source is not None:
            self._examples.close()

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Batch:
        """Raises UserError once more than `data.max_bad_images` images could not be read."""
        parts = []
        if self._count:
            before = time.perf_counter()
            parts.append(self._with_sgm(self._recorded()))
            self.seconds_waited += time.perf_counter() - before
        if self.world_count:
            parts.append(self._with_sgm(self._rendered()))
        self._step += 1
        self._recorded_taken += self._count
        self._rendered_taken += self.world_count
        return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    def _dataset(self, source: Source) -> grain.MapDataset:
        """From the present place on, this host's examples with the unreadable paths met on the way to them."""
        limit = self._config.data.max_bad_images
        order = grain.MapDataset.range(len(source)).shuffle(seed=self._config.seed % 2**32).repeat()
        first, count, share = self._recorded_taken, self._count, self._count // self._shards

        def read(taken: int) -> tuple[Example | None, tuple[BadImage, ...]]:
            batch, row = divmod(taken, share)
            return read_or_replace(source, order[first + batch * count + self._shard * share + row], limit)

        return grain.MapDataset.range(sys.maxsize).map(read)

    def _read_options(self) -> grain.ReadOptions:
        threads = self._config.data.threads
        return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2 * self._count // self._shards)

    def _recorded(self) -> Batch:
        examples = []
        for _ in range(self._count // self._shards):
            example, errors = next(self._examples)
            self._count_bad(errors)
            if example is None:
                raise UserError(f"no example of the recording can be read: {errors[-1]}")
            examples.append(example)
        batch = to_batch(examples, tuple(self._config.image_size), tuple(self._config.data.views))
        if uses_truth(self._config):  # recordings know none
            depth, motion = (
                np.zeros(batch.target.shape[:3], np.float32),
                np.zeros((*batch.speed.shape, 4, 4), np.float32),
            )
            batch = dataclasses.replace(batch, depth=depth, motion=motion)
        if self._expert_cache is None:
            return batch
        return dataclasses.replace(batch, expert=self._expert_cache.read(batch.index.tolist()))

    def _count_bad(self, errors: tuple[BadImage, ...]) -> None:
        for error in errors:
            if str(error) in self._bad:
                continue
            self._bad.add(str(error))
            logging.warning("%s Another example takes its place.", error)
            if len(self._bad) > (limit := self._config.data.max_bad_images):
                raise UserError(f"more than data.max_bad_images={limit} images cannot be read, the last: {error}")

    def _rendered(self) -> Batch:
        # Imported here because it compiles nothing for those who train on recordings alone.
        from robustdepth.world.generate import render_examples, rendering_devices, surface_depth

        config, count = self._config, self.world_count
        share = count // self._shards
        indices = self._rendered_taken + self._shard * share + np.arange(share)
        size, views = tuple(config.image_size), tuple(config.data.views)
        devices = rendering_devices()
        batch, truth = render_examples(
            indices, seed=config.seed, split="train", size=size, views=views, devices=devices
        )
        if config.task == "segmentation":
            return dataclasses.replace(batch, labels=truth.labels[:, 0])
        if uses_truth(config):
            batch = dataclasses.replace(batch, depth=surface_depth(truth.depth[:, 0]), motion=truth.pose)
        if disparity_from(config) == TRUTH:
            disparity = stereo_disparity(truth.depth[:, 0], batch.camera.focal[:, 0], batch.baseline)
            return dataclasses.replace(batch, disparity=disparity)
        return batch

    def _with_sgm(self, batch: Batch) -> Batch:
        """The batch with disparities of semi-global matching, where the config wants these."""
        if disparity_from(self._config) != SGM:
            return batch
        return add_sgm(batch, disparity_range(batch.camera.size[1], self._config.stereo.max_disparity))


def read_or_replace(source: Source, index: int, limit: int) -> tuple[Example | None, tuple[BadImage, ...]]:
    """The example at `index`, or the next one that can be read, with the errors met before it.

    No example is returned where more than `limit` different images, or all examples, cannot be read.
    """
    errors: dict[str, BadImage] = {}
    for offset in range(len(source)):
        try:
            return source[(index + offset) % len(source)], tuple(errors.values())
        except BadImage as error:
            errors[str(error)] = error
            if len(errors) > limit:
                break
    return None, tuple(errors.values())


def to_batch(examples: list[Example], size: tuple[int, int], views: tuple[str, ...]) -> Batch:
    """Stacks examples of `size` (height, width) into one batch."""
    fields = {
        field.name: np.stack([getattr(example, field.name) for example in examples])
        for field in dataclasses.fields(Example)
        if getattr(examples[0], field.name) is not None
    }
    camera = Camera(fields.pop("focal"), fields.pop("center"), size)
    return Batch(camera=camera, source_names=views, **fields)
