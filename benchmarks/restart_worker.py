"""The training command with a clock: python -m benchmarks.restart_worker CLOCK.json BEGAN [flags of the command].

`benchmarks.restart` starts it. After the first step it writes the seconds since BEGAN (as `time.time`), by stage.
"""

import json
import pathlib
import sys
import time
from collections.abc import Callable

from robustdepth.runtime.files import replacing

EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "of it tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "of it tracing",
    "/jax/core/compile/backend_compile_duration": "of it compiling",
}


class Clock:
    """Ends of stages, and the times that JAX tells of."""

    def __init__(self, began: float):
        self._stages = {"": began}
        self._spans: dict[str, list[tuple[float, float]]] = {name: [] for name in EVENTS.values()}

    def ends(self, stage: str) -> None:
        self._stages.setdefault(stage, time.time())

    def after(self, stage: str, function: Callable) -> Callable:
        """The function, whose return ends a stage."""

        def called(*args, **kwargs):
            result = function(*args, **kwargs)
            self.ends(stage)
            return result

        return called

    def hears(self, event: str, duration_secs: float, **_: str | int) -> None:
        """Listens to `jax.monitoring`."""
        if event in EVENTS:
            self._spans[EVENTS[event]].append((time.time() - duration_secs, time.time()))

    def read(self) -> dict[str, float]:
        """Seconds in all, by stage, and of JAX's events, which may lie in each other."""
        names, ends = list(self._stages), list(self._stages.values())
        found = {"seconds": ends[-1] - ends[0]}
        found |= {name: end - begin for name, begin, end in zip(names[1:], ends[:-1], ends[1:], strict=True)}
        return found | {name: covered(spans) for name, spans in self._spans.items()}


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of a union of intervals."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def main() -> None:
    path, clock = pathlib.Path(sys.argv[1]), Clock(float(sys.argv[2]))
    del sys.argv[1:3]
    import jax
    from absl import app

    from robustdepth import train
    from robustdepth.training import loop

    clock.ends("imports")
    jax.monitoring.register_event_duration_secs_listener(clock.hears)
    build = loop.build

    def build_and_watch(*args):
        experiment = build(*args)
        clock.ends("networks")

        def step(*args):
            clock.ends("first batch")
            return experiment.step(*args)

        return experiment._replace(step=step)

    class Progress(loop.Progress):
        def report(self, *args):
            clock.ends("first step")
            if not path.exists():
                with replacing(path) as part:
                    part.write_text(json.dumps(clock.read()))
            return super().report(*args)

    save_median, start = clock.after("data", loop.save_median), clock.after("state", loop.start)
    vars(loop).update(build=build_and_watch, Progress=Progress, save_median=save_median, start=start)
    train.define_flags()
    app.run(train.main, flags_parser=train.parse_flags)


if __name__ == "__main__":
    main()
