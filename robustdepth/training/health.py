"""Is this training alive? Depth networks can collapse to a constant while the loss goes on falling."""

import dataclasses
import pathlib
import shlex
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.types import Batch

OF_THE_DATA = "constant_frames"  # what an untrained network does not excuse


def alarms(scalars: dict[str, float], config: ConfigDict) -> dict[str, str]:
    """What looks wrong in a period's mean quantities: a sentence by the quantity's name; empty where all is well."""
    limits, found = config.health, {}
    spread = scalars.get("depth_spread", float("inf"))
    if spread < limits.min_spread:
        found["depth_spread"] = (
            f"depth has collapsed: its spread (std/mean) is {spread:.4f}, under {limits.min_spread}; "
            "lower the learning rate or start from pretrained weights."
        )
    for name, limit in (("at_min_depth", "min_depth"), ("at_max_depth", "max_depth")):
        outside = scalars.get(name, 0.0)
        if outside > limits.max_at_limits:
            found[name] = (
                f"{outside:.0%} of depth is at config.model.{limit}={config.model[limit]}, over "
                f"{limits.max_at_limits:.0%}: depth has left its range; lower the learning rate, start from other "
                "weights or another config.seed, or widen the range."
            )
    if (constant := scalars.get(OF_THE_DATA, 0.0)) > 0:
        found[OF_THE_DATA] = (
            f"{constant:.0%} of the images are black or of one colour, from which nothing can be learned: look at the "
            "footage."
        )
    masked = scalars.get("auto_mask", 0.0)
    if masked > limits.max_auto_mask:
        found["auto_mask"] = (
            f"{masked:.0%} of the pixels are auto-masked, over {limits.max_auto_mask:.0%}: no motion explains them; "
            "is the camera moving, are the intrinsics right?"
        )
    length = scalars.get("translation", 0.0)
    if length > limits.max_translation:
        found["translation"] = (
            f"the pose network's steps grew to {length:.1f}, over {limits.max_translation}: motion has diverged."
        )
    entropy = scalars.get("graph_entropy")
    if entropy is not None and not limits.graph_entropy[0] <= entropy <= limits.graph_entropy[1]:
        low, high = limits.graph_entropy
        shape = "collapsed to few edges" if entropy < low else "become almost uniform"
        found["graph_entropy"] = (
            f"the expert's semantic graph has {shape}: its row entropy is {entropy:.0%} of the largest possible, "
            f"outside {low:.0%} to {high:.0%}; raise config.loss.semantics_anchor or change config.semantics.graph."
        )
    share = scalars.get("mask_proxy")
    if share is not None and not limits.mask_proxy[0] <= share <= limits.mask_proxy[1]:
        low, high = limits.mask_proxy
        found["mask_proxy"] = (
            f"masks take {share:.0%} of the stereo proxies, outside {low:.0%} to {high:.0%}: nothing is selected any "
            "more; are the proxies good, is config.loss.mask high enough?"
        )
    return found


def collapsed(terms: dict[str, float], config: ConfigDict) -> str | None:
    """How depth has collapsed beyond doubt, twice as far out as where an alarm begins; None where it has not."""
    limits = config.health
    if (spread := terms.get("depth_spread", float("inf"))) < limits.min_spread / 2:
        return f"its spread (std/mean) is {spread:.4f}"
    for limit in ("min_depth", "max_depth"):
        if (share := terms.get(f"at_{limit}", 0.0)) > 2 * limits.max_at_limits:
            return f"{share:.0%} of it is at config.model.{limit}={config.model[limit]}"
    return None


def save_bad_batch(batch: Batch, step: int, workdir: pathlib.Path) -> pathlib.Path:
    """Keeps all that a skipped step was given as WORKDIR/bad_batches/STEP.npz; `training.replay` reads it."""
    path = workdir / "bad_batches" / f"{step}.npz"
    path.parent.mkdir(exist_ok=True)
    host = jax.device_get(batch)
    fields = {field.name: getattr(host, field.name) for field in dataclasses.fields(Batch)}
    camera, names = fields.pop("camera"), fields.pop("source_names")
    arrays: dict[str, Any] = {name: np.asarray(field) for name, field in fields.items() if field is not None}
    np.savez_compressed(
        path, **arrays, focal=camera.focal, center=camera.center, source_names=np.array(names, dtype=str)
    )
    return path


def stop_if_hopeless(skipped_in_row: int, step: int, terms: dict[str, float], path: pathlib.Path, limit: int) -> None:
    """Ends training after too many skipped steps in a row, with the cause.

    Raises:
      UserError: names the terms that are not finite and where the batch was saved.
    """
    if skipped_in_row < limit:
        return
    broken = [name for name, value in terms.items() if not np.isfinite(value)]
    raise UserError(
        f"{skipped_in_row} steps in a row up to step {step} were not finite ({', '.join(broken)}); the last batch "
        f"is in {path}: `python -m robustdepth.training.replay {shlex.quote(str(path))}` runs it again; lower "
        "config.optimizer.learning_rate or set config.model.dtype=float32."
    )
