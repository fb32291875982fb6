"""Composes the methods chosen by the config into one pure function, loss_fn(params, stats, batch, key, step)."""

from collections.abc import Callable

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from robustdepth.conditions.spec import parse
from robustdepth.errors import UserError
from robustdepth.geometry.depth import disparity_to_depth
from robustdepth.methods import structure, weather
from robustdepth.methods.augment import augment
from robustdepth.methods.second_view import second_view_terms
from robustdepth.types import TEMPORAL, Array, Batch, PyTree, Term


@flax.struct.dataclass
class Aux:
    """What a loss evaluation yields besides the loss."""

    stats: PyTree  # new batch statistics
    losses: dict[str, Term]  # unweighted loss terms by name
    watched: dict[str, Term]  # quantities that tell health
    images: dict[str, Array]  # to show: target, rebuilt, disparity, error


WEATHER = 1  # folded into the step's key, so that switching weather on leaves the other draws as they were
LossFn = Callable[[PyTree, PyTree, Batch, Array, Array], tuple[Array, Aux]]


def weight_at(weight: float | str, step: Array) -> Array | float:
    """A loss weight: a number, or a linear schedule "start:end:steps" that reaches `end` at step `steps`.

    Raises:
      UserError: a string of another form.
    """
    if not isinstance(weight, str):
        return weight
    try:
        start, end, steps = (float(part) for part in weight.split(":"))
    except ValueError:
        raise UserError(f'loss weight "{weight}" is neither a number nor a schedule "start:end:steps".') from None
    return start + (end - start) * jnp.clip(step.astype(jnp.float32) / max(steps, 1.0), 0.0, 1.0)


def make_loss_fn(config: ConfigDict, depth_net: nn.Module, pose_net: nn.Module | None) -> LossFn:
    """The training objective of a config.

    Args:
      config: an experiment, see configs/base.py.
      depth_net: image -> DepthOutput, see models.build.
      pose_net: image pair -> axis-angle and translation; None where every source is the stereo view.

    Returns:
      loss_fn(params, stats, batch, key, step) -> (loss, Aux), pure and differentiable in `params`.
    """
    data, weights = config.data, config.loss
    has_temporal = any(name in TEMPORAL for name in data.views)
    with_weather = bool(weights.weather_photometric or weights.weather_consistency)
    conditions = parse(config.weather.spec) if with_weather else ()

    def loss_fn(params: PyTree, stats: PyTree, batch: Batch, key: Array, step: Array) -> tuple[Array, Aux]:
        augment_key, mask_key = jax.random.split(key)
        views = augment(batch, augment_key, flip=data.flip, strength=tuple(data.jitter), grey=data.grey)
        output, new_stats = apply(depth_net, "depth", params, stats, views.seen_target)
        forward = None
        if has_temporal:
            assert pose_net is not None
            forward, pose_stats = apply(pose_net, "pose", params, stats, *structure.temporal_pairs(views))
            new_stats |= pose_stats
        motions = structure.motions_of(views.clean, forward)
        losses, watched, images = structure.structure_terms(output.disparities, motions, views.clean, config, mask_key)
        if weights.velocity and has_temporal:
            losses["velocity"] = structure.velocity_term(motions, views.clean)
        if weights.geometric:

            def depth_of(image: Array) -> Array:
                disparity = apply(depth_net, "depth", params, stats, image)[0].disparities[0]
                return disparity_to_depth(disparity, config.model.min_depth, config.model.max_depth)

            depth = disparity_to_depth(output.disparities[0], config.model.min_depth, config.model.max_depth)
            losses["geometric"] = structure.geometric_term(depth, motions, views.clean, depth_of, views.seen_sources)
        if with_weather:
            weather_key = jax.random.fold_in(key, WEATHER)
            adverse = weather.weather_view(conditions, views, output.disparities[0], config, weather_key)
            second, depth_stats = apply(depth_net, "depth", params, new_stats, adverse)
            new_stats |= depth_stats
            terms = second_view_terms(
                output.disparities, second.disparities, motions, views.clean, images["error"], config, mask_key
            )
            losses |= {f"weather_{name}": term for name, term in terms.items() if weights[f"weather_{name}"]}
            images["weather"] = adverse
        loss = sum(weight_at(weights[name], step) * term.value for name, term in losses.items())
        return loss, Aux(new_stats, losses, watched, images)

    return loss_fn


def apply(net: nn.Module, name: str, params: PyTree, stats: PyTree, *images: Array):
    """Runs one network in training mode; returns its output and {name: new batch statistics}."""
    variables = {"params": params[name], "batch_stats": stats[name]}
    output, updated = net.apply(variables, *images, train=True, mutable=["batch_stats"])
    return output, {name: updated["batch_stats"]}
