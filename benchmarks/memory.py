"""Memory and time of ways to need less memory: python -m benchmarks.memory [--batch=4] [--output=FILE.json].

One training step of the monocular recipe with rematerialisation (config.model.remat), gradient accumulation
(config.optimizer.accumulate) and bfloat16 networks, each in a process of its own. "temporaries" is what XLA reserves
beside state and batch; "process" is the largest resident memory, compiling included.
"""

import argparse

from benchmarks.results import markdown, record
from benchmarks.step_worker import measure
from robustdepth.errors import run_main

ROWS: dict[str, dict] = {
    "plain": {},
    "remat convolutions": {"model.remat": "convolutions"},
    "remat full": {"model.remat": "full"},
    "accumulate 2": {"optimizer.accumulate": 2},
    "accumulate 4": {"optimizer.accumulate": 4},
    "remat full, accumulate 4": {"model.remat": "full", "optimizer.accumulate": 4},
    "bfloat16": {"model.dtype": "bfloat16"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    for name, default in (("batch", 4), ("height", 192), ("width", 640), ("steps", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--output", help="JSON file for docs/results")
    options = parser.parse_args()
    common = {
        "image_size": (options.height, options.width),
        "batch_size": options.batch,
        "model.encoder": options.encoder,
        "model.pose_encoder": options.encoder,
    }
    found = {name: measure(common | ROWS[name], steps=options.steps) for name in options.rows}
    first = next(iter(found.values()))
    table = [row(name, step, first) for name, step in found.items()]
    print(markdown(table))
    if options.output:
        size = f"{options.encoder}, batch {options.batch}, {options.height}x{options.width}"
        record(options.output, f"Memory of one step, {size}", table)


def row(name: str, found: dict, first: dict) -> dict:
    """A row of the table; `first` is what it is compared with."""
    return {
        "step": name,
        "GB of temporaries": round(found["temporary_bytes"] / 1e9, 2),
        "times the first row": round(found["temporary_bytes"] / first["temporary_bytes"], 2),
        "GB of the process": round(found["resident_bytes"] / 1e9, 2),
        "seconds a step": round(found["seconds"], 2),
        "times as long": round(found["seconds"] / first["seconds"], 2),
        "first loss": f"{found['losses'][0]:.6f}",
    }


if __name__ == "__main__":
    run_main(main)
