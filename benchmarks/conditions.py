"""Cost of adverse conditions beside a training step: python -m benchmarks.conditions [--batch=4] [--output=FILE].

The step is the standard monocular one (ResNet-18, two source frames, 192x640, four scales, Adam) on the same images, in
the same process. Goal: every condition takes under 15% of it.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.results import markdown, record
from benchmarks.step_inputs import draw
from benchmarks.step_jax import batch_of, step_part
from robustdepth.conditions.spec import CONDITIONS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 4), ("height", 192), ("width", 640), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", help="JSON file for docs/results")
    parser.set_defaults(dtype="float32")
    options = parser.parse_args()
    batch = batch_of(draw(options.batch, options.height, options.width))
    # From 3 metres at the bottom to 80 at the horizon, as a road has it.
    rows = jnp.linspace(80.0, 3.0, options.height, dtype=jnp.float32)
    depth = jnp.broadcast_to(rows[None, :, None], batch.target.shape[:3])
    severity = jnp.full(options.batch, 0.7)
    run = step_part(options)
    step = milliseconds(lambda: jax.block_until_ready(run()), options.repeats)
    table = [{"what": "training step", "milliseconds": round(step, 1), "share_of_step": 1.0}]
    for name, condition in CONDITIONS.items():
        render = jax.jit(condition)
        arguments = jnp.asarray(batch.target), depth, batch.camera, jax.random.key(0), severity
        took = milliseconds(
            lambda render=render, given=arguments: jax.block_until_ready(render(*given)), options.repeats
        )
        table.append({"what": name, "milliseconds": round(took, 1), "share_of_step": round(took / step, 4)})
    print(markdown(table))
    if options.output:
        title = f"Adverse conditions beside a training step, batch {options.batch}, {options.height}x{options.width}"
        record(options.output, title, table)


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Median over `repeats` calls after two that compile and warm up."""
    for _ in range(2):
        run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


if __name__ == "__main__":
    main()
