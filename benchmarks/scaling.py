"""One training step on 1, 2, 4 and 8 devices: python -m benchmarks.scaling [--devices=1,2,4,8] [--output=FILE.json].

The same global batch of the monocular recipe, split over fake CPU devices that share this machine's cores: this shows
that the numbers are the same, what each device holds and what the devices must tell each other, with parameters on
every device and split over them ("longest"). Seconds show what splitting costs here, not how fast real devices are.
"""

import argparse

from benchmarks.results import markdown, record
from benchmarks.step_worker import measure
from robustdepth.errors import run_main

RULES = {"on every device": [[".*", []]], "split": [[".*", "longest"]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="1,2,4,8")
    for name, default in (("batch", 8), ("height", 96), ("width", 320), ("steps", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--output", help="JSON file for docs/results")
    options = parser.parse_args()
    counts = [int(count) for count in options.devices.split(",")]
    plan = [(count, rules) for count in counts for rules in RULES if count > 1 or rules == "on every device"]
    found = {key: step(options, *key) for key in plan}
    table = [row(*key, found[key], found[plan[0]]) for key in plan]
    print(markdown(table))
    if options.output:
        size = f"{options.encoder}, batch {options.batch}, {options.height}x{options.width}"
        note = "The devices are fake ones that share the cores: the seconds are the cost of splitting, not a speed."
        record(options.output, f"One step on several devices, {size}", table, note)


def step(options: argparse.Namespace, devices: int, rules: str) -> dict:
    overrides = {
        "image_size": (options.height, options.width),
        "batch_size": options.batch,
        "model.encoder": options.encoder,
        "model.pose_encoder": options.encoder,
        "sharding.rules": RULES[rules],
    }
    return measure(overrides, devices, options.steps)


def row(devices: int, rules: str, found: dict, one: dict) -> dict:
    """A row of the table; `one` is what it is compared with, a single device."""
    talk = [f"{count} {kind} ({size / 1e6:.1f} MB)" for kind, (count, size) in found["collectives"].items()]
    return {
        "devices": devices,
        "parameters": rules,
        "first loss": f"{found['losses'][0]:.7f}",
        "its relative difference": f"{relative(found['losses'][0], one['losses'][0]):.1e}",
        "that of the gradient's norm": f"{relative(found['gradient_norms'][0], one['gradient_norms'][0]):.1e}",
        f"of the loss of step {len(found['losses'])}": f"{relative(found['losses'][-1], one['losses'][-1]):.1e}",
        "MB of state and batch a device": round(found["state_bytes"] / 1e6, 1),
        "MB of temporaries a device": round(found["temporary_bytes"] / 1e6, 1),
        "seconds a step": round(found["seconds"], 2),
        "collectives": ", ".join(talk) or "none",
    }


def relative(value: float, reference: float) -> float:
    return abs(value / reference - 1.0)


if __name__ == "__main__":
    run_main(main)
