"""Profiles of a few steps on demand, for TensorBoard's profiler (XProf) and Perfetto."""

import pathlib
import re
from collections.abc import Callable
from typing import TypeVar

import jax

from robustdepth.errors import UserError
from robustdepth.runtime import distributed

Result = TypeVar("Result")


def parse_steps(text: str, last_step: int) -> range:
    """The steps that --profile_steps=FIRST:LAST names, counted from 1 as the log does; none for "".

    Raises:
      UserError: not two numbers, or steps that the training does not have.
    """
    if not text:
        return range(0)
    match = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = (int(number) for number in match.groups()) if match else (0, 0)
    if not 1 <= first <= last <= last_step:
        raise UserError(
            f"--profile_steps={text}: give FIRST:LAST with 1 <= FIRST <= LAST <= {last_step}, the training's last step."
        )
    return range(first, last + 1)


class Profiler:
    """Runs steps, and traces some of them on process 0; those that lie before its first step are left out."""

    def __init__(self, steps: range, folder: pathlib.Path):
        self._steps = steps
        self._folder = folder
        self._tracing = False

    def run(self, number: int, step: Callable[..., Result], *arguments: object) -> Result:
        """What `step(*arguments)` returns, which is step `number` of the training."""
        if number not in self._steps or not distributed.is_first():
            return step(*arguments)
        if not self._tracing:
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            result = step(*arguments)
        if number == self._steps[-1]:
            jax.block_until_ready(result)
            self.close()
        return result

    def close(self) -> None:
        """Writes what has been traced, and says where it lies; called by `run` after the last of the steps."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
            print(
                f"profile of steps up to {self._steps[-1]} written: tensorboard --logdir={self._folder} (with xprof), "
                "or open its perfetto_trace.json.gz in ui.perfetto.dev",
                flush=True,
            )
