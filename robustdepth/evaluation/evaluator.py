"""One protocol over its samples: host threads read, resize and score while the devices predict.

Of a job of several processes each does its share of the samples; all of them have the result.
"""

from __future__ import annotations

import collections
import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float
from tqdm import tqdm

from robustdepth.errors import BadFile, UserError
from robustdepth.evaluation.frame import ScoredFrame
from robustdepth.evaluation.predictors import Predictor
from robustdepth.evaluation.protocols import Protocol, resolve_alignment
from robustdepth.evaluation.result import LeftOut, Metrics, Result, mean_metrics
from robustdepth.evaluation.samples import Samples
from robustdepth.runtime import distributed
from robustdepth.runtime.distributed import is_first
from robustdepth.types import EvalSample

MAX_LEFT_OUT = 16  # samples that cannot be read
# Of samples that the network sees at once: name and metrics of each, and those that cannot be read.
_Block = tuple[list[tuple[str, dict[str, Metrics]]], list[LeftOut]]


def evaluate(
    protocol: Protocol,
    samples: Samples,
    predictor: Predictor,
    median_map: Float[np.ndarray, "map_height map_width"],
    *,
    alignment: str = "",
    threads: int = 4,
    bar: bool = True,
) -> Result:
    """Scores a predictor and the trivial baselines on all samples; up to MAX_LEFT_OUT that cannot be read are left out.

    Args:
        median_map: per-pixel median depth of the training set, metres, at any size. It is one baseline; the other is
            one constant depth, its median (which matters only where the protocol does not align).
        alignment: overrides the protocol's alignment; the result's name then says so.
        threads: host threads that load, prepare and score beside the network.
        bar: whether a progress bar is shown.

    Raises:
        UserError: more samples that cannot be read, or all, a sample without valid ground truth, ground truth of
            another size than its image, a prediction that is not positive and finite or of an impossible size.
    """
    rule, name = resolve_alignment(protocol, predictor.scale, alignment)
    baselines = _baselines(median_map)
    score = functools.partial(_score, protocol, rule, baselines)
    # Whatever cannot be read, and whichever process it is, an image is seen beside the same others.
    numbers, size = range(len(samples)), predictor.batch_size
    blocks = [numbers[first : first + size] for first in numbers[::size]]
    started, network_seconds = time.perf_counter(), 0.0

    def measure(own: range) -> list[_Block]:
        nonlocal network_seconds
        chosen = [blocks[number] for number in own]
        with tqdm(total=sum(map(len, chosen)), desc=name, unit="image", disable=not bar or not is_first()) as progress:
            found, network_seconds = _measure(samples, predictor, score, chosen, threads, progress)
        return found

    found = distributed.shared(len(blocks), measure, len(samples))
    rows = [row for block, _ in found for row in block]
    left_out = tuple(LeftOut(*entry) for _, block in found for entry in block)
    _check_left_out(left_out)
    if not rows:
        raise UserError(f"none of the {len(samples)} samples of {name} can be read: {left_out[0].reason}")
    means = {key: mean_metrics([row[key] for _, row in rows]) for key in ("model", *baselines)}
    return Result(
        name=name,
        title=protocol.title,
        alignment=rule,
        metrics=means.pop("model"),
        baselines=means,
        per_image=[{"name": sample_name, **row["model"]} for sample_name, row in rows],
        seconds=time.perf_counter() - started,
        network_seconds=network_seconds,
        expected_count=protocol.count,
        left_out=left_out,
    )


def _measure(
    samples: Samples,
    predictor: Predictor,
    score: Callable[[EvalSample, np.ndarray], dict[str, Metrics]],
    blocks: Sequence[range],
    threads: int,
    progress: tqdm,
) -> tuple[list[_Block], float]:
    """What blocks of samples gave, each of which the predictor sees at once, and the seconds that it took."""
    pending: list[tuple[list[tuple[str, Future]], list[LeftOut]]] = []
    seconds, load = 0.0, functools.partial(_load, samples, predictor)
    with ThreadPoolExecutor(threads) as loaders, ThreadPoolExecutor(threads) as scorers:
        indices = itertools.chain.from_iterable(blocks)
        loaded = map_ahead(loaders, load, indices, ahead=2 * predictor.batch_size + threads)
        for block in blocks:
            found = list(itertools.islice(loaded, len(block)))
            batch = [item for item in found if not isinstance(item, LeftOut)]
            pending.append(([], [item for item in found if isinstance(item, LeftOut)]))
            _check_left_out([entry for _, left_out in pending for entry in left_out])
            if batch:
                asked = time.perf_counter()
                predictions = predictor.infer([prepared for _, prepared in batch])
                seconds += time.perf_counter() - asked
                for (sample, _), inverse in zip(batch, predictions, strict=True):
                    pending[-1][0].append((sample.name, scorers.submit(score, sample, inverse)))
            progress.update(len(block))
        return [([(name, row.result()) for name, row in rows], left_out) for rows, left_out in pending], seconds


def _baselines(median_map: Float[np.ndarray, "map_height map_width"]) -> dict[str, np.ndarray]:
    """Inverse depth of predictors that look at no image."""
    inverse = (1 / np.asarray(median_map)).astype(np.float32)
    return {"constant": np.full((1, 1), np.median(inverse), np.float32), "train_median": inverse}


def _score(
    protocol: Protocol, rule: str, baselines: dict[str, np.ndarray], sample: EvalSample, inverse: np.ndarray
) -> dict[str, Metrics]:
    """Metrics of the model's inverse depth, [height, width], and of the baselines'."""
    frame = ScoredFrame(protocol, rule, sample)
    frame.check(inverse)
    return {key: frame.score(values) for key, values in {"model": inverse, **baselines}.items()}


def _load(samples: Samples, predictor: Predictor, index: int) -> tuple[EvalSample, Any] | LeftOut:
    try:
        sample = samples[index]
    except BadFile as error:
        logging.warning("%s This sample is left out.", error)
        return LeftOut(index, str(error))
    return sample, predictor.prepare(index, sample)


def _check_left_out(left_out: Sequence[LeftOut]) -> None:
    """Raises UserError where samples that cannot be read are too many."""
    if len(left_out) > MAX_LEFT_OUT:
        last = left_out[MAX_LEFT_OUT].reason
        raise UserError(f"more than {MAX_LEFT_OUT} samples cannot be read, the last: {last}")


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[int], Any], indices: Iterable[int], ahead: int
) -> Iterator[Any]:
    """Results of `function` in order, computed in the pool with at most `ahead` in flight."""
    futures: collections.deque[Future] = collections.deque()
    for index in indices:
        futures.append(pool.submit(function, index))
        if len(futures) > ahead:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()
