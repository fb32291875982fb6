"""The evaluation command on fewer worlds, and with what a test wants to go wrong."""

import dataclasses
import os
import pathlib
import time

from absl import app, flags

from robustdepth import evaluate
from robustdepth.data.benchmarks.protocol import PROTOCOLS
from robustdepth.errors import UserError
from robustdepth.evaluation import evaluator, watch
from robustdepth.paths import command_line
from robustdepth.runtime import checkpoint

_WORLDS = flags.DEFINE_integer("worlds", 5, "Images of protocol world.")
_REFUSED = flags.DEFINE_string("refused", "", "A frame that cannot be scored, by its name.")
_REMOVED = flags.DEFINE_string("removed", "", "A step that is gone when it is read; WORKDIR/newer is there as step 7.")
_HANGS = flags.DEFINE_string("hangs", "", "A file: it is written at the first frame, and nothing happens from then on.")


def score(protocol, rule, baselines, sample, inverse):
    """The evaluator's, after what the flags ask for."""
    if sample.name == _REFUSED.value:
        raise UserError(f"{sample.name} is refused.")
    if _HANGS.value:
        pathlib.Path(_HANGS.value).write_text(str(os.getpid()))
        time.sleep(1000)
    return real_score(protocol, rule, baselines, sample, inverse)


def read_arrays(folder, names):
    """Those of a checkpoint, unless a training has removed it, having saved a newer one."""
    if folder.parent.name == _REMOVED.value:
        (folder.parents[2] / "newer").rename(folder.parents[1] / "7")
        raise FileNotFoundError(f"{folder} is not there")
    return real_read_arrays(folder, names)


def main(argv) -> None:
    PROTOCOLS["world"] = dataclasses.replace(PROTOCOLS["world"], count=_WORLDS.value)
    watch.watch.__defaults__ = (0.2,)  # seconds between two looks
    evaluate.main(argv)


if __name__ == "__main__":
    real_score, evaluator._score = evaluator._score, score
    real_read_arrays, checkpoint._read_arrays = checkpoint._read_arrays, read_arrays
    evaluate.define_flags()
    app.run(main, argv=command_line())
