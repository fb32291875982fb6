"""Composes the methods chosen by the config into one pure function, loss_fn(params, stats, batch, key, step)."""

import dataclasses
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from robustdepth.conditions.spec import parse
from robustdepth.data.source import uses_proxy, uses_truth
from robustdepth.errors import UserError
from robustdepth.geometry.depth import disparity_to_depth
from robustdepth.imaging.resize import resize_map
from robustdepth.methods import reprojection, selective, semantics, texture, truth, weather
from robustdepth.methods.augment import Views, augment, canonical
from robustdepth.methods.second_view import second_view_terms
from robustdepth.methods.transfer import Transfer, transfer_terms
from robustdepth.types import TEMPORAL, Array, Batch, PyTree, Term


@flax.struct.dataclass
class Aux:
    """What a loss evaluation yields besides the loss."""

    stats: PyTree  # new batch statistics
    losses: dict[str, Term]  # unweighted loss terms by name
    watched: dict[str, Term]  # logged beside the losses, to see whether training is healthy
    images: dict[str, Array]  # to show: target, rebuilt, disparity, error


# Folded into the step's key: switching one method on leaves the other draws as they were.
WEATHER, TEXTURE, SEMANTICS, SELECTIVE = 1, 2, 3, 4
SECOND_VIEWS = ("texture", "weather")
SEMANTIC_TERMS = ("semantics_edge", "semantics_node", "semantics_anchor")
TRANSFER_TERMS = ("transfer_feature", "transfer_distribution")
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


def uses(config: ConfigDict, *terms: str) -> bool:
    """Whether any of these loss terms has a weight."""
    return any(bool(config.loss[term]) for term in terms)


def uses_view(config: ConfigDict, name: str) -> bool:
    """Whether training shows the depth network this second view ("texture" or "weather") of the target."""
    return uses(config, f"{name}_photometric", f"{name}_consistency")


def uses_semantics(config: ConfigDict) -> bool:
    """Whether a semantic expert teaches."""
    return config.task == "depth" and uses(config, *SEMANTIC_TERMS)


def uses_transfer(config: ConfigDict) -> bool:
    """Whether a stereo network's geometry teaches the depth network's features."""
    return config.task == "depth" and uses(config, *TRANSFER_TERMS)


def make_loss_fn(
    config: ConfigDict,
    depth_net: nn.Module,
    pose_net: nn.Module | None,
    graph: nn.Module | None = None,
    transfer: Transfer | None = None,
) -> LossFn:
    """The training objective of a config.

    Args:
      config: an experiment, see configs/base.py.
      depth_net: image -> DepthOutput, see models.build.
      pose_net: image pair -> axis-angle and translation; None where every source is the stereo view.
      graph: what compares student and expert, see methods.semantics.graph_for; None where nothing does.
      transfer: what compares student and stereo network, see methods.transfer.transfer_for; None where nothing does.

    Returns:
      loss_fn(params, stats, batch, key, step) -> (loss, Aux), pure and differentiable in `params`.
    """
    weights = config.loss
    has_temporal = any(name in TEMPORAL for name in config.data.views)
    conditions = parse(config.weather.spec) if uses_view(config, "weather") else ()
    run = partial(apply, remat=config.model.remat)
    rebuilds = uses(config, "photometric", "smoothness") or any(uses_view(config, name) for name in SECOND_VIEWS)

    def full_depth(disparity: Array) -> Array:
        """Depth at the images' size of the finest disparity, whose stride may be more than one."""
        return disparity_to_depth(
            resize_map(disparity, tuple(config.image_size)), config.model.min_depth, config.model.max_depth
        )

    def second_views(views: Views, disparity: Array, key: Array, step: Array) -> dict[str, Array]:
        """The harder views of the target that training shows the depth network beside the clear one."""
        changed = {}
        if uses_view(config, "texture"):
            changed["texture"] = texture.texture_view(views, config, jax.random.fold_in(key, TEXTURE), step)
        if uses_view(config, "weather"):
            weather_key = jax.random.fold_in(key, WEATHER)
            changed["weather"] = weather.weather_view(conditions, views, disparity, config, weather_key)
        return changed

    def loss_fn(params: PyTree, stats: PyTree, batch: Batch, key: Array, step: Array) -> tuple[Array, Aux]:
        augment_key, mask_key = jax.random.split(key)
        data = config.data
        views = augment(
            batch,
            augment_key,
            flip=data.flip,
            strength=tuple(data.jitter),
            grey=data.grey,
            camera_effects=data.camera_effects,
        )
        views = dataclasses.replace(views, clean=canonical(views.clean, config.model.canonical_focal))
        output, new_stats = run(depth_net, "depth", params, stats, views.seen_target)
        forward = None
        if has_temporal:
            assert pose_net is not None
            forward, pose_stats = run(pose_net, "pose", params, stats, *reprojection.temporal_pairs(views))
            new_stats |= pose_stats
        motions = reprojection.motions_of(views.clean, forward)
        if rebuilds:
            losses, watched, images = reprojection.reprojection_terms(
                output.disparities, motions, views.clean, config, mask_key
            )
        else:
            losses, watched, images = {}, {}, {"target": views.seen_target, "disparity": output.disparities[0]}
        if uses_truth(config):
            depth = full_depth(output.disparities[0])
            losses |= truth.terms(depth, views.clean.depth)
            if weights.truth_motion and has_temporal:
                losses["truth_motion"] = truth.motion_term(motions, views.clean.motion, views.clean.source_names)
            watched |= reprojection.watched_depth(depth)
        if weights.velocity and has_temporal:
            losses["velocity"] = reprojection.velocity_term(motions, views.clean)
        if weights.geometric:

            def depth_of(image: Array) -> Array:
                return full_depth(run(depth_net, "depth", params, stats, image)[0].disparities[0])

            depth = full_depth(output.disparities[0])
            losses["geometric"] = reprojection.geometric_term(depth, motions, views.clean, depth_of, views.seen_sources)
        students = {"clean": [output.decoded], "perturbed": []}
        for name, changed in second_views(views, output.disparities[0], key, step).items():
            second, depth_stats = run(depth_net, "depth", params, stats | new_stats, changed)
            new_stats |= depth_stats
            terms = second_view_terms(
                output.disparities, second.disparities, motions, views.clean, images["error"], config, mask_key
            )
            losses |= {f"{name}_{kind}": term for kind, term in terms.items()}
            images[name] = changed
            students["perturbed"].append(second.decoded)
        if uses_semantics(config):
            maps = [decoded[config.semantics.stride] for view in config.semantics.views for decoded in students[view]]
            terms, seen = semantics.semantic_terms(
                graph,
                params["semantics"],
                maps,
                views.clean.expert,
                config,
                jax.random.fold_in(key, SEMANTICS),
            )
            losses |= terms
            watched |= seen
        if uses_proxy(config):
            selective_key = jax.random.fold_in(key, SELECTIVE)
            terms, seen, shown = selective.selective_terms(output, views.clean, config, selective_key, step)
            losses, watched, images = losses | terms, watched | seen, images | shown
        if transfer is not None:
            losses |= transfer_terms(transfer, params["transfer"], output.decoded, views.clean)
        losses = {name: term for name, term in losses.items() if weights[name]}
        loss = sum(weight_at(weights[name], step) * term.value for name, term in losses.items())
        return loss, Aux(stats | new_stats, losses, watched, images)

    return loss_fn


def save_convolutions(primitive, *_, **__) -> bool:
    """Rematerialisation policy: keeps what convolutions and matrix products give, computes the rest again."""
    return primitive in (jax.lax.conv_general_dilated_p, jax.lax.dot_general_p)


REMAT = {"convolutions": save_convolutions, "full": jax.checkpoint_policies.nothing_saveable}


def apply(net: nn.Module, name: str, params: PyTree, stats: PyTree, *images: Array, remat: str = "none"):
    """Runs one network in training mode; returns its output and {name: new batch statistics}.

    `remat` says what the backward pass computes again instead of keeping it, config.model.remat.
    """

    def forward(variables: PyTree, *images: Array):
        return net.apply(variables, *images, train=True, mutable=["batch_stats"])

    if remat != "none":
        forward = jax.checkpoint(forward, policy=REMAT[remat])
    output, updated = forward({"params": params[name], "batch_stats": stats[name]}, *images)
    return output, {name: updated.get("batch_stats", {})}
