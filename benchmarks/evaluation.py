"""Where an evaluation's time goes: python -m benchmarks.evaluation --data_root=KITTI_RAW [--count=697] [--output=FILE].

An untrained ResNet-18 at 192x640 on LiDAR frames under the protocol kitti_sparse_frames, frames repeated up to --count.
"Outside the network" compares the whole evaluation with the same network calls made alone, so host work that slows the
network down by taking its cores counts as outside. On a CPU that other processes use too, wall time says little: the
same ratio of CPU times (outside_network_cpu) is then the better one; on an accelerator it means nothing.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks.results import markdown, record
from configs import base
from robustdepth.errors import run_main
from robustdepth.evaluation.evaluator import evaluate
from robustdepth.evaluation.frame import ScoredFrame
from robustdepth.evaluation.predictors import NetworkPredictor
from robustdepth.evaluation.protocols import PROTOCOLS
from robustdepth.evaluation.samples import protocol_samples
from robustdepth.models.build import build_depth_net
from robustdepth.runtime.inference import DepthModel

_DATA_ROOT = flags.DEFINE_string("data_root", None, "Folder of KITTI raw recordings with LiDAR.")
_COUNT = flags.DEFINE_integer("count", 697, "Images to evaluate.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images per call of the network.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for docs/results.")
_ENCODER = flags.DEFINE_string("encoder", "resnet18", "Encoder of the depth network.")


class Repeated:
    """The samples over and over, read anew each time."""

    def __init__(self, samples, count: int):
        self.samples, self.count = samples, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        return self.samples[index % len(self.samples)]


def main(_) -> None:
    run_main(_measure)


def _measure() -> None:
    protocol = PROTOCOLS.find("kitti_sparse_frames")
    samples = Repeated(protocol_samples(protocol, data_root=_DATA_ROOT.value), _COUNT.value)
    predictor = NetworkPredictor(_untrained_model(), _BATCH_SIZE.value)
    median_map = np.full((192, 640), 15, np.float32)

    sample, load = _timed(lambda: samples[0])
    prepared, prepare = _timed(lambda: predictor.prepare(0, sample))
    inverse = predictor.infer([prepared])[0]
    _, score = _timed(lambda: [ScoredFrame(protocol, "median", sample).score(inverse) for _ in range(3)])

    cpu_started = time.process_time()
    result = evaluate(protocol, samples, predictor, median_map)
    started, cpu_alone_started = time.perf_counter(), time.process_time()
    for first in range(0, _COUNT.value, predictor.batch_size):
        predictor.infer([prepared] * min(predictor.batch_size, _COUNT.value - first))
    alone, cpu_ended = time.perf_counter() - started, time.process_time()
    cpu, cpu_alone = cpu_alone_started - cpu_started, cpu_ended - cpu_alone_started
    row = {
        "images": _COUNT.value,
        "seconds": round(result.seconds, 2),
        "network_alone_seconds": round(alone, 2),
        "outside_network": round(1 - alone / result.seconds, 3),
        "cpu_seconds": round(cpu, 2),
        "network_alone_cpu_seconds": round(cpu_alone, 2),
        "outside_network_cpu": round(1 - cpu_alone / cpu, 3),
        "no_network_call_under_way": round(result.outside_network, 3),
        "load_cpu_ms": load,
        "prepare_cpu_ms": prepare,
        "score_cpu_ms": score,
    }
    print(markdown([row]))
    if _OUTPUT.value:
        record(_OUTPUT.value, "Where an evaluation's time goes", [row])


def _timed(function):
    """The result, and the milliseconds of processor time of the median of 15 calls."""
    times = []
    for _ in range(15):
        started = time.thread_time()
        result = function()
        times.append(time.thread_time() - started)
    return result, round(1e3 * float(np.median(times)), 2)


def _untrained_model() -> DepthModel:
    config = base.get_config()
    config.model.encoder = _ENCODER.value
    network = build_depth_net(config.model)
    image = jnp.zeros((1, *config.image_size, 3), jnp.float32)
    return DepthModel(config, {"depth": jax.jit(lambda: network.init(jax.random.key(0), image, train=False))()}, 0, "-")


if __name__ == "__main__":
    flags.mark_flags_as_required(["data_root"])
    app.run(main)
