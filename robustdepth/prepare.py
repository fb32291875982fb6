"""Looks at recordings before training, and packs them at network size.

  python -m robustdepth.prepare check FOLDER_OR_VIDEO [--data=frames|kitti_raw|kitti_odometry]
  python -m robustdepth.prepare kitti_raw --source=FOLDER --output=FOLDER [--height=192 --width=640 --split=FILE]

`kitti_odometry` and `frames` are packed like `kitti_raw`. The same command continues an interrupted preparation.
Public datasets for evaluation (docs/datasets.md):

  python -m robustdepth.prepare check_dataset NAME --root=FOLDER [--split=FILE]
  python -m robustdepth.prepare evaluation CONDITION --root=FOLDER --output=FOLDER [--split=FILE]

Images under the corruptions of the robustness benchmark (docs/evaluation.md):

  python -m robustdepth.prepare corrupt --source=FOLDER --output=FOLDER [--corruptions=fog,jpeg --severities=1,3,5]

Disparities of stereo pairs, which a network can learn from (docs/proxies.md):

  python -m robustdepth.prepare proxies --source=FOLDER --data=kitti_raw --output=FOLDER --method=sgm|WEIGHTS

How fast training reads its images (docs/data.md):

  python -m robustdepth.prepare bench --source=FOLDER --data=packed [--consumes=SAMPLES_PER_S | --config=FILE]
"""

import argparse

from robustdepth.commands.bench import add_bench_command
from robustdepth.commands.corrupt import add_corrupt_command
from robustdepth.commands.datasets import add_dataset_commands
from robustdepth.commands.proxies import add_proxies_command
from robustdepth.data.check import check
from robustdepth.data.pack import QUALITY, options, pack
from robustdepth.data.recordings.clips import RECORDINGS
from robustdepth.errors import UserError, run_main
from robustdepth.paths import command_line

ORIGINAL = [name for name in RECORDINGS if name != "packed"]


def main() -> None:
    arguments = parse()
    if "run" in arguments:
        arguments.run(arguments)
        return
    if arguments.command == "check":
        print(*check(options(arguments.data, arguments.root)), sep="\n")
        return
    if min(size := (arguments.height, arguments.width)) < 32 or any(length % 16 for length in size):
        raise UserError(f"height and width must be multiples of 16 from 32 on, got {size[0]} and {size[1]}.")
    data = options(arguments.command, arguments.source, arguments.split, arguments.sequences)
    print(pack(data, arguments.output, size, arguments.encoding))


def parse() -> argparse.Namespace:
    """The command line; argparse explains mistakes and exits with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m robustdepth.prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="report on a recording, and reject what cannot be right")
    checking.add_argument("root", help="the recording's folder, or a video")
    checking.add_argument("--data", choices=ORIGINAL, default="frames", help="its layout (frames: your own footage)")
    add_dataset_commands(commands)
    add_corrupt_command(commands)
    add_proxies_command(commands)
    add_bench_command(commands)
    for name in ORIGINAL:
        packing = commands.add_parser(name, help=f"pack a {name} recording")
        packing.add_argument("--source", required=True, help="the recording's folder")
        packing.add_argument("--output", required=True, help="folder for the packed frames")
        packing.add_argument("--height", type=int, default=192)
        packing.add_argument("--width", type=int, default=640)
        packing.add_argument("--encoding", choices=QUALITY, default="jpeg", help="raw: faster to read, exact, larger")
        packing.add_argument("--split", default="", help="only these targets and their views: lines 'folder frame l|r'")
        packing.add_argument("--sequences", nargs="*", default=(), help="only these drives, sequences or clips")
    return parser.parse_args(command_line()[1:])


if __name__ == "__main__":
    run_main(main)
