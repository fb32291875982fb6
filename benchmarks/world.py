"""Speed of the procedural world: python -m benchmarks.world [--sizes=64x208,192x640] [--output=FILE.json].

Frames are rendered in batches of four views a scene. Beside the best wall time of several runs stands the best CPU time
of all threads: on a machine that others use too it is the steadier figure (frames_per_cpu_second, one core).
"""

import time

import jax
import jax.numpy as jnp
from absl import app, flags

from benchmarks.results import markdown, record
from robustdepth.errors import UserError, run_main
from robustdepth.world.generate import render_examples

VIEWS = 4  # target, previous, next, stereo

_SIZES = flags.DEFINE_list("sizes", ["64x208", "96x320", "192x640"], "Image sizes, HEIGHTxWIDTH.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 12, "Scenes rendered at once.")
_RUNS = flags.DEFINE_integer("runs", 8, "Runs, of which the best counts.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for docs/results.")


def main(_) -> None:
    run_main(_measure)


def _measure() -> None:
    rows = [_row(size) for size in _SIZES.value]
    print(markdown(rows))
    if _OUTPUT.value:
        record(_OUTPUT.value, "Rendering the procedural world", rows)


def _row(text: str) -> dict:
    try:
        height, width = (int(part) for part in text.split("x"))
    except ValueError:
        raise UserError(f"size {text!r} is not HEIGHTxWIDTH; write for example --sizes=64x208.") from None
    wall, cpu = zip(*[_render(run, (height, width)) for run in range(_RUNS.value + 1)], strict=True)
    frames = VIEWS * _BATCH_SIZE.value
    return {
        "size": text,
        "scenes a batch": _BATCH_SIZE.value,
        "frames_per_second": round(frames / min(wall[1:]), 1),
        "frames_per_cpu_second": round(frames / min(cpu[1:]), 1),
        "first_call_seconds": round(wall[0], 1),
    }


def _render(run: int, size: tuple[int, int]) -> tuple[float, float]:
    """Wall and CPU seconds for one batch of new scenes; run 0 compiles."""
    indices = run * _BATCH_SIZE.value + jnp.arange(_BATCH_SIZE.value)
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(render_examples(indices, seed=0, split="train", size=size))
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    app.run(main)
