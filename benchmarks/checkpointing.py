"""What saving checkpoints costs a training: python -m benchmarks.checkpointing [--rows=...] [--output=FILE.json].

Blocks of --block steps of one training in one process, in turns with a save after the block's first step and without
one. What a block with a save takes longer is what a save costs: the time that the loop stands still, and what the
steps beside it lose to the thread that writes. Goal: under 2% of the wall time at the experiment's own cadence.
"""

import argparse
import itertools
import pathlib
import tempfile
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.results import markdown, record
from configs import world_quickstart
from robustdepth.data.stream import train_stream
from robustdepth.errors import run_main
from robustdepth.runtime import sharding
from robustdepth.runtime.checkpoint import Checkpointer
from robustdepth.training.setup import build

# Experiments by name: what differs from the quickstart. The second has all of its parameters in the optimiser.
ROWS: dict[str, dict] = {
    "quickstart": {},
    "resnet18": {
        "image_size": (96, 320),
        "model.encoder": "resnet18",
        "model.pretrained": "",
        "model.freeze_encoder": False,
        "model.decoder_width": 1.0,
    },
}
OFTEN = 100  # steps between the checkpoints of someone who wants to lose little


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="of " + ", ".join(ROWS))
    parser.add_argument("--block", type=int, default=50, help="steps; a save must be over before its block is")
    parser.add_argument("--repeats", type=int, default=7, help="pairs of blocks, after one to warm up")
    parser.add_argument("--output", help="JSON file for docs/results")
    options = parser.parse_args()
    table = [measure(name, options.block, options.repeats) for name in options.rows.split(",")]
    print(markdown(table))
    if options.output:
        record(options.output, "What saving checkpoints costs", table)


def measure(name: str, block: int, repeats: int) -> dict:
    """One row of the table."""
    config = world_quickstart.get_config()
    config.update_from_flattened_dict(ROWS[name])
    with tempfile.TemporaryDirectory() as folder, Checkpointer(pathlib.Path(folder), config.checkpoint.keep) as saver:
        training = Training(config, saver)
        training.run(block, save=True)  # compiles, and warms up
        pairs = [(training.run(block, save=False), training.run(block, save=True)) for _ in range(repeats)]
        size = sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())
        kept = len(list((pathlib.Path(folder) / "checkpoints").iterdir()))
    costs = [with_save - without for (without, _), (with_save, _) in pairs]
    low, high = np.quantile(costs, (0.25, 0.75))
    cost, step = float(np.median(costs)), float(np.median([without for (without, _), _ in pairs])) / block
    return {
        "experiment": name,
        "size, batch": f"{config.image_size[0]}x{config.image_size[1]}, {config.batch_size}",
        "MB a checkpoint": round(size / kept / 1e6, 1),
        "seconds a step": round(step, 4),
        "seconds blocked": round(float(np.median([blocked for _, (_, blocked) in pairs])), 3),
        "seconds a save costs": f"{cost:.2f} (quartiles {low:.2f}, {high:.2f})",
        f"share, every {config.checkpoint.every}": percent(cost, config.checkpoint.every * step),
        f"share, every {OFTEN}": percent(cost, OFTEN * step),
    }


def percent(cost: float, between: float) -> str:
    return f"{100 * cost / (between + cost):.2f}%"


class Training:
    """The training loop without its reports."""

    def __init__(self, config: ConfigDict, saver: Checkpointer):
        self.mesh = sharding.make_mesh(config.sharding.axis)
        self.stream, self.saver = train_stream(config), saver
        experiment = build(config, self.mesh)
        self.step, self.state = experiment.step, experiment.initial_state()
        self.steps = itertools.count(1)

    def run(self, count: int, save: bool) -> tuple[float, float]:
        """Takes `count` steps, saving after the first one if wanted; seconds in all, and seconds within `save`."""
        began, blocked, pending = time.perf_counter(), 0.0, None
        for number in range(count):
            batch, step = sharding.put_batch(next(self.stream), self.mesh), next(self.steps)
            self.state, log = self.step(self.state, batch)
            if pending is not None:
                jax.device_get(pending.terms)  # one step late, as the loop does
            pending = log
            if save and number == 0:
                jax.block_until_ready(self.state)  # the step's own time is not the save's
                entered = time.perf_counter()
                self.saver.save(self.state, self.stream.get_state(), step)
                blocked = time.perf_counter() - entered
        jax.block_until_ready(self.state)
        self.saver.wait()  # nothing, where the block is long enough
        return time.perf_counter() - began, blocked


if __name__ == "__main__":
    run_main(main)
