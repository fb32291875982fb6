"""Adam with clipping, weight decay and a warm-up-then-drops learning rate, from the config."""

import jax
import optax
from ml_collections import ConfigDict


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """Linear warm-up to `learning_rate`, then multiplied by `drop_factor` at each fraction in `drops`."""
    o = config.optimizer
    drops = {round(fraction * o.steps): o.drop_factor for fraction in o.drops}
    steady = optax.piecewise_constant_schedule(o.learning_rate, drops)
    if not o.warmup_steps:
        return steady

    def schedule(count):
        return steady(count) * optax.linear_schedule(1.0 / o.warmup_steps, 1.0, o.warmup_steps - 1)(count)

    return schedule


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Clip by global norm, Adam, decoupled weight decay on kernels, learning rate; frozen parameters have no state."""
    o = config.optimizer
    stages = [optax.clip_by_global_norm(o.clip_norm)] if o.clip_norm else []
    stages.append(optax.scale_by_adam())
    if o.weight_decay:
        stages.append(optax.add_decayed_weights(o.weight_decay, mask=_kernels))
    stages.append(optax.scale_by_learning_rate(learning_rate(config)))
    optimizer = optax.chain(*stages)
    if config.model.freeze_encoder:
        return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, _part)
    return optimizer


def _part(params):
    """Of every parameter: "frozen" in the encoder of the depth or segmentation network, "trained" elsewhere."""

    def label(path: tuple, _) -> str:
        network, part = (key.key for key in path[:2])
        return "frozen" if part == "encoder" and network != "pose" else "trained"

    return jax.tree_util.tree_map_with_path(label, params)


def _kernels(params):
    """True for arrays of at least two axes: biases and norm scales are not decayed."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
