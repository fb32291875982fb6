"""How fast training batches are read, and whether that keeps up with a model."""

import os
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from robustdepth.data.recordings.packed import is_raw
from robustdepth.data.source import Source
from robustdepth.data.stream import Stream

MARGIN = 1.25  # times what the model consumes: training needs the processor for other things too


class Reading(NamedTuple):
    """What reading with some threads reached."""

    threads: int  # data.threads: 0 reads in the main thread
    images_per_second: float  # decoded and resized, every view counted
    samples_per_second: float  # targets with their views: what training calls images/s
    cpu_seconds_per_1000_images: float  # of all threads; steady where other work runs beside


def measure_reading(config: ConfigDict, source: Source, threads: int, seconds: float) -> Reading:
    """Takes batches from the stream that training uses, for at least `seconds` after the first one."""
    config = config.copy_and_resolve_references()
    config.data.threads = threads
    stream = Stream(config, source=source)
    next(stream)
    wall, cpu, images, samples = time.perf_counter(), time.process_time(), 0, 0
    while (elapsed := time.perf_counter() - wall) < seconds or not samples:
        batch = next(stream)
        samples += len(batch.target)
        images += len(batch.target) + int(batch.source_valid.sum())
    cpu = time.process_time() - cpu
    stream.close()
    return Reading(threads, images / elapsed, samples / elapsed, 1000 * cpu / images)


def verdict(readings: Sequence[Reading], consumes: float | None, data: ConfigDict) -> tuple[bool | None, str]:
    """Whether the input keeps up with a model, None where that is unknown, and a sentence that says so.

    Args:
      readings: of several numbers of threads.
      consumes: samples per second of the model.
      data: the config's `data` section, to say what to change.
    """
    best = max(readings, key=lambda reading: reading.samples_per_second)
    rate = f"reading reaches {best.samples_per_second:,.0f} samples/s (data.threads={best.threads})"
    if consumes is None:
        return None, (
            f"R{rate[1:]}; whether that keeps up depends on the model: give --consumes=SAMPLES_PER_S, "
            "the images/s that its training prints, or --config=FILE to measure a step here."
        )
    needed = f"the model consumes {consumes:,.0f}"
    enough = [reading for reading in readings if reading.samples_per_second >= MARGIN * consumes]
    if enough:
        fewest = min(enough, key=lambda reading: reading.threads)
        return True, (
            f"The input keeps up: with data.threads={fewest.threads} reading reaches "
            f"{fewest.samples_per_second:,.0f} samples/s, {needed}."
        )
    return False, f"The input does not keep up with {MARGIN - 1:.0%} to spare: {rate}, {needed}; {_advice(best, data)}."


def _advice(best: Reading, data: ConfigDict) -> str:
    cores = len(os.sched_getaffinity(0))
    if data.name != "packed":
        return f"pack the frames: python -m robustdepth.prepare {data.name} --encoding=raw"
    if not is_raw(pathlib.Path(data.root)):
        return "pack the frames again with --encoding=raw, which needs no decoding"
    if best.threads < cores:
        return f"try more --threads (there are {cores} cores)"
    return "give the job more cores, or keep the packed frames on a faster disk"


def table(readings: Sequence[Reading]) -> str:
    """The readings as lines of text."""
    lines = [f"{'threads':>7}  {'images/s':>9}  {'samples/s':>9}  CPU s/1000 images  images/s of a core"]
    for threads, images, samples, cpu in readings:
        lines.append(f"{threads:7}  {images:9,.0f}  {samples:9,.0f}  {cpu:17.2f}  {1000 / max(cpu, 1e-9):18,.0f}")
    return "\n".join(lines)
