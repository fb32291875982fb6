"""One command for all: robustdepth train|evaluate|predict|..., each of COMMANDS as python -m runs it."""

import runpy
import sys

from robustdepth.errors import nearest

COMMANDS = {
    "train": "trains an experiment",
    "evaluate": "evaluates depth under protocols, or compares models",
    "predict": "depth of images, folders and videos",
    "prepare": "looks at recordings before training, packs them",
    "sample": "pictures of rendered worlds, textures and weather",
    "export": "a trained network as one file",
    "ablate": "trains and evaluates the rows of a family of experiments",
    "demo": "a page to play with, in the browser",
}


def main() -> None:
    """Runs the sub-command that the first word names, with the words after it; a wrong one ends with status 2."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print("usage: robustdepth COMMAND ...; robustdepth COMMAND --help says more.\n")
        print(*(f"  {command:9} {text}" for command, text in COMMANDS.items()), sep="\n")
        return
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}: {nearest(name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    runpy.run_module(f"robustdepth.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
