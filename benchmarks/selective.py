"""Cost of selective distillation: python -m benchmarks.selective [--batch=4] [--output=FILE].

Training steps of ResNet-18 at 192x640 from stereo pairs, on the same images in the same process: the photometric loss
alone, with proxies everywhere, and with learned masks; the proxies are in the batch, as from files. Goal: at most 1.5
times the plain step. Afterwards the depth network is used alone, by the same program in all of them: the last column.
"""

import argparse
import dataclasses

import jax
import numpy as np

from benchmarks.results import markdown, record
from benchmarks.step_inputs import draw
from benchmarks.step_jax import batch_of
from benchmarks.turns import median_seconds, rows_of_steps
from configs import kitti_selective_resnet18, world_selective
from robustdepth.compiling.dry_run import planned
from robustdepth.models.build import build_depth_net
from robustdepth.runtime import sharding
from robustdepth.training.setup import build
from robustdepth.types import STEREO

ROWS = ("base", "naive", "learned")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 4), ("height", 192), ("width", 640), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", help="JSON file for docs/results")
    options = parser.parse_args()
    steps = {row: step_of(row, options) for row in ROWS}
    seconds = median_seconds({name: run for name, (run, _) in steps.items()}, options.repeats)
    table = rows_of_steps(seconds, {name: program for name, (_, program) in steps.items()})
    print(markdown(table))
    if options.output:
        title = f"Steps of selective distillation, batch {options.batch}, {options.height}x{options.width}"
        record(options.output, title, table)


def step_of(row: str, options: argparse.Namespace):
    """A function that takes one training step, and the program of the depth network as it is used afterwards."""
    config = planned(kitti_selective_resnet18.get_config())
    config.image_size, config.batch_size = (options.height, options.width), options.batch
    config.loss.proxy = config.loss.mask = 0.0
    config.model.mask_decoder = "none"
    config.update_from_flattened_dict(world_selective.ROWS[row])
    mesh = sharding.make_mesh(config.sharding.axis)
    experiment = build(config, mesh)
    state = experiment.initial_state()
    batch = batch_of(draw(options.batch, options.height, options.width))
    pair = batch.source_names[0]
    assert pair != STEREO, "the first source stands in for the right view"
    draws = np.random.default_rng(0)
    disparity = draws.uniform(1.0, 60.0, batch.target.shape[:3]).astype(np.float32)
    batch = dataclasses.replace(
        batch,
        sources=batch.sources[:, :1],
        source_valid=np.ones((options.batch, 1), bool),
        speed=np.zeros((options.batch, 1), np.float32),
        baseline=np.full(options.batch, 0.54, np.float32),
        source_names=(STEREO,),
        disparity=disparity,
        disparity_failed=draws.random(disparity.shape) < 0.05,
    )
    batch = sharding.put_batch(batch, mesh)
    depth_net = build_depth_net(config.model)
    variables = {"params": state.params["depth"], "batch_stats": state.stats["depth"]}
    program = jax.jit(lambda v, x: depth_net.apply(v, x, train=False).disparities[0])
    used = program.lower(jax.eval_shape(lambda: variables), batch.target[:1]).compile().as_text()

    def run() -> float:
        nonlocal state
        state, log = experiment.step(state, batch)
        return float(log.terms["loss"].value)

    return run, used


if __name__ == "__main__":
    main()
