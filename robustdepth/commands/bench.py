"""The sub-command `bench` of `robustdepth.prepare`: how fast images are read, beside what a model consumes."""

import argparse
import json
import pathlib
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from robustdepth.data.bench import measure_reading, table, verdict
from robustdepth.data.pack import options
from robustdepth.data.source import RECORDINGS, build_source
from robustdepth.data.stream import Stream
from robustdepth.errors import UserError
from robustdepth.runtime import config as configs
from robustdepth.runtime import sharding
from robustdepth.runtime.family import load_config
from robustdepth.types import NEXT, PREVIOUS, Batch


def add_bench_command(commands: Any) -> None:
    """Adds `bench` to the sub-commands of `robustdepth.prepare`; `arguments.run(arguments)` runs it."""
    command = commands.add_parser("bench", help="measure how fast training reads its images")
    command.add_argument("--source", required=True, help="the recording's folder, or that of packed frames")
    command.add_argument("--data", choices=RECORDINGS, default="packed", help="its layout")
    command.add_argument("--height", type=int, help="of the network's images; default: the config's, else 192")
    command.add_argument("--width", type=int, help="default: the config's, else 640")
    command.add_argument("--batch", type=int, help="default: the config's, else 12")
    command.add_argument("--threads", default="1,2,4", help="values of data.threads to try; 0: the main thread alone")
    command.add_argument("--seconds", type=float, default=5.0, help="measured for each of --threads")
    model = command.add_mutually_exclusive_group()
    model.add_argument("--consumes", type=float, help="samples per second of the model: the images/s of its training")
    model.add_argument("--config", help="FILE or FILE:ROW of the experiment, whose step is compiled and timed here")
    command.add_argument("--output", type=pathlib.Path, help="JSON file for the figures")
    command.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    threads = _numbers(arguments.threads)
    if arguments.seconds <= 0 or (arguments.consumes is not None and arguments.consumes <= 0):
        raise UserError("--seconds and --consumes must be positive.")
    config = _config(arguments)
    source = build_source(config, keep=False)
    (height, width), batch = config.image_size, config.batch_size
    print(f"{len(source)} samples of {width}x{height} with {', '.join(config.data.views)}, {batch} a batch", flush=True)
    readings = [measure_reading(config, source, number, arguments.seconds) for number in threads]
    print(table(readings))
    if source.fits:
        print("Training decodes so short a recording only once: it keeps the images in memory and reads faster.")
    consumes = arguments.consumes
    if arguments.config:
        consumes = measure_step(config, next(Stream(config, source=source)), arguments.seconds)
        print(f"a step of {arguments.config} here: {consumes:,.1f} samples/s")
    keeps_up, sentence = verdict(readings, consumes, config.data)
    print(sentence)
    if arguments.output:
        found = {"source": arguments.source, "data": arguments.data, "size": [height, width], "batch": batch}
        found |= {"views": list(config.data.views), "readings": [reading._asdict() for reading in readings]}
        found |= {"consumes": consumes, "keeps_up": keeps_up, "verdict": sentence}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(found, indent=1) + "\n")


def _numbers(text: str) -> list[int]:
    numbers = text.split(",")
    if not all(number.isdecimal() for number in numbers):
        raise UserError(f"--threads={text}: write whole numbers such as 1,2,4.")
    return [int(number) for number in numbers]


def _config(arguments: argparse.Namespace) -> ConfigDict:
    """The experiment's config, or as much of one as reading needs, for the recording alone."""
    if arguments.config:
        config = load_config(arguments.config)
        config.data.update(dict(name=arguments.data, root=arguments.source, split="", sequences=(), world_share=0.0))
    else:
        data = options(arguments.data, arguments.source)
        data.update(dict(views=(PREVIOUS, NEXT), world_share=0.0, threads=0))
        values = dict(task="depth", loss=dict(proxy=0.0), seed=0, image_size=(192, 640), batch_size=12)
        config = ConfigDict(values | dict(data=data))
    height, width = config.image_size
    config.image_size = (arguments.height or height, arguments.width or width)
    config.batch_size = arguments.batch or config.batch_size
    if min(*config.image_size, config.batch_size) < 1:
        raise UserError("--height, --width and --batch must be positive.")
    if arguments.config:
        configs.check(config)
    return config


def measure_step(config: ConfigDict, batch: Batch, seconds: float) -> float:
    """Samples per second of the config's compiled training step, on all devices, with one batch over and over."""
    # Imported here because only this needs the networks.
    from robustdepth.training.setup import build

    mesh = sharding.make_mesh(config.sharding.axis)
    batch = sharding.put_batch(batch, mesh)
    experiment = build(config, mesh)
    state, log = experiment.step(experiment.initial_state(), batch)  # compiles
    jax.block_until_ready(log)
    began, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds or not steps:
        state, log = experiment.step(state, batch)
        jax.block_until_ready(log)
        steps += 1
    return steps * config.batch_size / elapsed
