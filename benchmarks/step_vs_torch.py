"""Speed beside PyTorch on the same machine: python -m benchmarks.step_vs_torch [--batch=4] [--output=FILE.json].

The standard monocular step (ResNet-18, two source frames, 192x640, four scales, Adam), in three parts: view synthesis
and losses with their gradient, inference of one image, and the whole training step. Both sides run alternately, each
in fresh processes; the loss part must give the same value on both. Needs `pip install torch`.
"""

import argparse
import json
import statistics
import subprocess
import sys

from benchmarks.results import markdown, record
from benchmarks.step_inputs import PARTS

GOALS = {"loss": 0.4, "inference": 0.9, "step": 1.0}  # of PyTorch's time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes of each side for each part")
    parser.add_argument("--output", help="JSON file for docs/results")
    options = parser.parse_args()
    rows = [compare(part, options.batch, options.rounds) for part in PARTS]
    print(markdown(rows))
    if options.output:
        record(options.output, "Speed beside eager PyTorch on the CPU", rows)


def compare(part: str, batch: int, rounds: int) -> dict:
    """One row: the median over fresh processes of each process's median time."""
    seconds: dict[str, list[float]] = {"torch": [], "jax": []}
    values: dict[str, float] = {}
    for _ in range(rounds):
        for side in seconds:
            found = run(side, part, batch)
            seconds[side].append(found["seconds"])
            values[side] = found["value"]
    if part == "loss" and abs(values["jax"] - values["torch"]) > 1e-3 * abs(values["torch"]):
        raise SystemExit(f"the two sides do not compute the same loss: {values}")
    ours, theirs = statistics.median(seconds["jax"]), statistics.median(seconds["torch"])
    return {
        "part": part,
        "batch": 1 if part == "inference" else batch,
        "torch_seconds": round(theirs, 4),
        "jax_seconds": round(ours, 4),
        "ratio": round(ours / theirs, 3),
        "goal": GOALS[part],
        "torch_range": spread(seconds["torch"]),
        "jax_range": spread(seconds["jax"]),
        "loss_torch": round(values["torch"], 5) if part == "loss" else "",
        "loss_jax": round(values["jax"], 5) if part == "loss" else "",
    }


def spread(seconds: list[float]) -> str:
    return f"{min(seconds):.4f}-{max(seconds):.4f}"


def run(side: str, part: str, batch: int) -> dict:
    """{"seconds", "value"} of one fresh process."""
    command = [sys.executable, "-m", f"benchmarks.step_{side}", part, f"--batch={batch}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
