"""Cost of the structure-centric method: python -m benchmarks.structure [--batch=4] [--output=FILE].

Training steps of ResNet-18 at 192x640 on the same images in the same process: without the method, with each of its
parts and with both; the expert's features are in the batch, as from a cache. Goal: both together take at most 2.2 times
the plain step. The depth network as it is used afterwards is one program in all of them: the last column compares.
"""

import argparse
import dataclasses

import jax
import numpy as np

from benchmarks.results import markdown, record
from benchmarks.step_inputs import draw
from benchmarks.step_jax import batch_of
from benchmarks.turns import median_seconds, rows_of_steps
from configs import kitti_structure_resnet18
from robustdepth.compiling.dry_run import planned
from robustdepth.methods.objective import make_loss_fn
from robustdepth.methods.semantics import graph_for, init_graph
from robustdepth.models.build import build_networks
from robustdepth.runtime import sharding
from robustdepth.training.optimizer import make_optimizer
from robustdepth.training.setup import init_variables, make_state
from robustdepth.training.step import make_step

CHANNELS = 384  # of DINOv2 ViT-S
PARTS = {
    "base": ("texture_photometric", "texture_consistency", "semantics_edge", "semantics_node", "semantics_anchor"),
    "texture": ("semantics_edge", "semantics_node", "semantics_anchor"),
    "semantics": ("texture_photometric", "texture_consistency"),
    "both": (),
}  # row -> the loss terms that it switches off


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 4), ("height", 192), ("width", 640), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", help="JSON file for docs/results")
    options = parser.parse_args()
    steps = {name: step_of(off, options) for name, off in PARTS.items()}
    seconds = median_seconds({name: run for name, (run, _) in steps.items()}, options.repeats)
    table = rows_of_steps(seconds, {name: program for name, (_, program) in steps.items()})
    print(markdown(table))
    if options.output:
        title = f"Steps of the structure-centric method, batch {options.batch}, {options.height}x{options.width}"
        record(options.output, title, table)


def step_of(switched_off: tuple[str, ...], options: argparse.Namespace):
    """A function that takes one training step, and the program of the depth network as it is used afterwards."""
    config = planned(kitti_structure_resnet18.get_config())
    config.image_size = (options.height, options.width)
    config.batch_size = options.batch
    for term in switched_off:
        config.loss[term] = 0.0
    networks = build_networks(config)
    optimizer = make_optimizer(config)
    height, width = options.height // 16, options.width // 16
    expert = np.random.default_rng(0).standard_normal((options.batch, height, width, CHANNELS)).astype(np.float32)
    student = (1, height, width, 256)
    graph = graph_for(config.semantics, CHANNELS)

    def initialise():
        variables = init_variables(config, networks)
        if config.loss.semantics_edge:
            key = jax.random.key(1)
            variables["semantics"] = {"params": init_graph(graph, student, (1, height, width, CHANNELS), key)}
        return make_state(config, variables, optimizer)

    state = jax.jit(initialise)()
    loss_fn = make_loss_fn(config, networks["depth"], networks["pose"], {"semantics": graph})
    step = jax.jit(make_step(config, loss_fn, optimizer), donate_argnums=0)
    batch = dataclasses.replace(batch_of(draw(options.batch, options.height, options.width)), expert=expert)
    batch = sharding.put_batch(batch, sharding.make_mesh("data"))
    depth_net = networks["depth"]
    variables = {"params": state.params["depth"], "batch_stats": state.stats["depth"]}
    program = jax.jit(lambda v, x: depth_net.apply(v, x, train=False).disparities[0])
    inference = program.lower(jax.eval_shape(lambda: variables), batch.target[:1]).as_text()

    def run() -> float:
        nonlocal state
        state, log = step(state, batch)
        return float(log.terms["loss"].value)

    return run, inference


if __name__ == "__main__":
    main()
