"""Adam with clipping, weight decay and a warm-up-then-drops learning rate, from the config."""

import jax
import optax
from ml_collections import ConfigDict


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """Linear warm-up to `learning_rate`, then a half cosine to 0, or `drop_factor` at each fraction in `drops`."""
    o = config.optimizer
    drops = {round(fraction * o.steps): o.drop_factor for fraction in o.drops}
    steady = optax.piecewise_constant_schedule(o.learning_rate, drops)
    if o.schedule == "cosine":
        steady = optax.cosine_decay_schedule(o.learning_rate, o.steps)
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
        return optax.partition({"rest": optimizer, "encoder": optax.set_to_zero()}, _part)
    if o.encoder_factor != 1.0:
        slower = optax.partition({"rest": optax.identity(), "encoder": optax.scale(o.encoder_factor)}, _part)
        return optax.chain(optimizer, slower)
    return optimizer


def _part(params):
    """Of every parameter: "encoder" in that of the depth or segmentation network, "rest" elsewhere."""

    def label(path: tuple, _) -> str:
        network, part = (key.key for key in path[:2])
        return "encoder" if part == "encoder" and network != "pose" else "rest"

    return jax.tree_util.tree_map_with_path(label, params)


def _kernels(params):
    """True for arrays of at least two axes: biases and norm scales are not decayed."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
