"""One accelerator, measured in ten minutes: python -m benchmarks.accelerator [--device=cuda] [--output=FILE.json].

The standard monocular step (ResNet-18, two source frames, four scales, Adam) of this project, of eager PyTorch and of
PyTorch compiled by torch.compile, in turns, for each batch and precision; then the renderer of the procedural world.
Each runs in fresh processes. What no time is left for is named, not left out in silence. Needs `pip install torch`, and
for the compiled side a C++ compiler. How fast a step could be at best: `python -m benchmarks.program`.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time

from benchmarks.results import markdown, record
from benchmarks.step_inputs import DEVICES, DTYPES
from robustdepth.errors import UserError, run_main

SIDES = {"jax": ("jax", ()), "torch": ("torch", ()), "torch compiled": ("torch", ("--compile",))}
WORLD_SECONDS = 45.0  # what the renderer's measurement takes, compiling included


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=DEVICES, default="cuda")
    parser.add_argument("--batches", default="12,96", help="images a step")
    parser.add_argument("--dtypes", default=",".join(reversed(DTYPES)), help="of the networks")
    parser.add_argument("--size", default="192x640", help="HEIGHTxWIDTH")
    parser.add_argument("--block", type=int, default=20, help="steps between two looks at the clock")
    parser.add_argument("--seconds", type=float, default=540.0, help="time for all; later combinations give way")
    parser.add_argument("--output", help="JSON file for docs/results")
    options = parser.parse_args()
    ends = time.monotonic() + options.seconds - WORLD_SECONDS
    rows, longest = [], 0.0
    for dtype, batch in itertools.product(options.dtypes.split(","), map(int, options.batches.split(","))):
        began = time.monotonic()
        if began + longest > ends:
            print(f"not measured for lack of time: {dtype}, batch {batch}", flush=True)
            continue
        rows.append(compare(options, dtype, batch))
        print(json.dumps(rows[-1]), flush=True)
        longest = max(longest, time.monotonic() - began)
    print(markdown(rows))
    subprocess.run([sys.executable, "-m", "benchmarks.world", f"--sizes={options.size}"], check=True)
    if options.output:
        record(options.output, f"A training step at {options.size} on {options.device}", rows)


def compare(options: argparse.Namespace, dtype: str, batch: int) -> dict:
    """One row: milliseconds of each side's step, and how many of ours fit into theirs."""
    found = {name: milliseconds(options, *side, dtype, batch) for name, side in SIDES.items()}
    ours = found.pop("jax")
    if ours is None:
        raise UserError(f"this project's step of batch {batch} in {dtype} failed; what it said stands above.")
    row: dict = {
        "networks": dtype,
        "batch": batch,
        "jax ms": round(ours, 2),
        "images a second": round(1e3 * batch / ours),
    }
    for name, theirs in found.items():
        measured = theirs is not None
        row[f"{name} ms"] = round(theirs, 2) if measured else "failed"
        row[f"{name} over jax"] = round(theirs / ours, 2) if measured else ""
    return row


def milliseconds(
    options: argparse.Namespace, side: str, flags: tuple[str, ...], dtype: str, batch: int
) -> float | None:
    """Median of a fresh process; None where it fails, having said why."""
    height, width = options.size.split("x")
    command = [sys.executable, "-m", f"benchmarks.step_{side}", "step", f"--batch={batch}", f"--dtype={dtype}", *flags]
    command += [f"--device={options.device}", f"--height={height}", f"--width={width}", f"--block={options.block}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return None if done.returncode else 1e3 * json.loads(done.stdout.splitlines()[-1])["seconds"]


if __name__ == "__main__":
    run_main(main)
