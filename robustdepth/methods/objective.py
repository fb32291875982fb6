"""The total loss of both papers and of their common base: the equations, and below them the sum.

Every weight w_x is config.loss.x: a number, or a schedule "start:end:steps"; 0 switches the term off. The usual weight
stands beside it. **[paper]** marks what a paper's available text states, **[ours]** our choice where it is silent.

The base learns depth from video and stereo pairs:

    L_base = w_photometric L_p + w_smoothness L_s + w_geometric L_g + w_velocity L_v

    L_p   photometric            1             reprojection.terms           **[paper]** view synthesis, **[ours]** form
    L_s   smoothness             1e-3          reprojection.terms           **[ours]**
    L_g   geometric              0.05, off     reprojection.geometric_term  **[ours]**
    L_v   velocity               off           reprojection.velocity_term   **[ours]**

Paper 1, structure-centric (Chen et al., ACCV 2024), adds a view of changed texture and a semantic expert:

    L_1 = L_base + w_texture_photometric L_tp + w_texture_consistency L_tc
          + w_semantics_edge L_e + w_semantics_node L_n + w_semantics_anchor L_a

    L_tp  texture_photometric    1             second_view.terms            **[ours]**
    L_tc  texture_consistency    0.1           second_view.terms            **[ours]**
          the view of both                     texture.view                 **[paper]** Retinex, **[ours]** changes
    L_e   semantics_edge         0:0.05:2000   semantics.terms              **[paper]** graphs, **[ours]** form
    L_n   semantics_node         0:0.05:2000   semantics.terms              **[paper]** graphs, **[ours]** form
    L_a   semantics_anchor       0:0.025:2000  semantics.terms              **[ours]**

Paper 2, selective distillation (Song & Yoon, arXiv 2205.08668), adds a stereo network and masks:

    L_2 = L_base + w_proxy L_d + w_mask L_m + w_transfer_feature L_f + w_transfer_distribution L_q

    L_d   proxy                  0.1           selective.terms              **[paper]** inside the mask, **[ours]** form
    L_m   mask                   1             selective.terms              **[paper]** two masks, **[ours]** form
    L_f   transfer_feature       0.1           transfer.terms               **[paper]** features, **[ours]** form
    L_q   transfer_distribution  0.05, off     transfer.terms               **[ours]**

True depth and motion, where images are rendered, add the terms truth, truth_shape, truth_gradient and truth_motion of
`truth` **[ours]**; without weights for L_p and L_s they teach alone. A training that starts from other networks may add
the term start of `start` **[ours]**, which keeps depth near theirs.

Training under weather **[ours]** adds w_weather_photometric L_wp + w_weather_consistency L_wc: the losses of
`second_view` once more, for the view of weather.view. A config may give weights to all of them: then all are added.

What stands above as NAME.terms, but for the base's and second_view's, is a method that lists itself in METHODS.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.methods import reprojection, second_view, texture, weather
from robustdepth.methods.augment import Views, augment
from robustdepth.methods.forward import apply, mode_of
from robustdepth.methods.method import METHODS, Aux, LossFn, Seen, Terms, weighted_sum
from robustdepth.streams import stream
from robustdepth.switches import BASE_TERMS, uses, uses_proxy, uses_view
from robustdepth.types import Array, Batch, PyTree

SECOND_VIEWS = {"texture": texture, "weather": weather}


class Parts(NamedTuple):
    """What the total loss of a config is made of."""

    weights: ConfigDict  # config.loss
    prepare: Callable[[Batch, Array], Views]  # mirrors and jitters
    look: Callable  # (params, stats, image) -> output of the depth network, {"depth": new statistics}
    move: Callable | None  # (params, stats, first, second) -> motion, {"pose": ...}; None: no source is temporal
    rebuilds: bool  # whether views are rebuilt from each other; else true depth teaches alone
    base: reprojection.Settings
    second: second_view.Settings
    views: Mapping[str, Callable]  # the second views that training shows
    methods: Mapping[str, Callable]  # what else has a weight


def total_loss(parts: Parts, params: PyTree, stats: PyTree, batch: Batch, key: Array, step: Array) -> tuple[Array, Aux]:
    """The weighted sum of all terms, pure and differentiable in `params`."""
    views = parts.prepare(batch, stream(key, "augment"))
    mask_key = stream(key, "auto_mask")
    clean = views.clean

    output, new_stats = parts.look(params, stats, views.seen_target)
    forward = None
    if parts.move is not None:
        forward, pose_stats = parts.move(params, stats, *reprojection.temporal_pairs(views))
        new_stats |= pose_stats
    motions = reprojection.motions_of(clean, forward)

    # L_base
    found = Terms({}, {}, {"target": views.seen_target, "disparity": output.disparities[0]})
    if parts.rebuilds:
        found |= reprojection.terms(parts.base, output.disparities, motions, clean, mask_key)
    if parts.weights.velocity and parts.move is not None:
        found |= Terms({"velocity": reprojection.velocity_term(motions, clean)})
    if parts.weights.geometric:
        sources = [views.seen_sources[:, s] for s in range(len(motions))]
        there = [parts.look(params, stats, source)[0].disparities[0] for source in sources]
        term = reprojection.geometric_term(parts.base, output.disparities[0], there, motions, clean)
        found |= Terms({"geometric": term})

    # L_tp and L_tc, or L_wp and L_wc: the depth network sees the target changed. It is used on clear images as well, so
    # its running statistics are those of the clear view alone.
    changed = {}
    for name, view in parts.views.items():
        image = view(views, output.disparities[0], stream(key, name), step)
        changed[name], _ = parts.look(params, stats, image)
        disparities = output.disparities, changed[name].disparities
        found |= second_view.terms(parts.second, name, *disparities, motions, clean, found.images["error"], mask_key)
        found |= Terms({}, {}, {name: image})

    # L_e, L_n, L_a; L_d, L_m, L_f, L_q; and what true depth teaches
    seen = Seen(clean, output, changed, motions, params, step)
    for name, terms in parts.methods.items():
        found |= terms(seen, stream(key, name))

    losses = {name: term for name, term in found.losses.items() if weight_of(parts.weights, name)}
    return weighted_sum(parts.weights, losses, step), Aux(stats | new_stats, losses, found.watched, found.images)


def weight_of(weights: ConfigDict, name: str) -> float | str:
    """The weight of a term. Raises UserError for a term that config.loss has no weight for."""
    loss = name.partition("/")[0]
    if loss not in weights:
        raise UserError(f"a method computes the loss {loss!r}, which has no weight in config.loss: name it in METHODS.")
    return weights[loss]


def terms_of(config: ConfigDict) -> set[str]:
    """The names in config.loss that a training of task "depth" computes; "mask" is learned beside "proxy" alone."""
    names = {*BASE_TERMS, *(f"{view}_{term}" for view in SECOND_VIEWS for term in ("photometric", "consistency"))}
    return names.union(*(method.losses for method in METHODS.values()), {"mask"} if uses_proxy(config) else ())


def make_loss_fn(
    config: ConfigDict,
    depth_net: nn.Module,
    pose_net: nn.Module | None,
    learnt: Mapping[str, nn.Module | None] | None = None,
) -> LossFn:
    """The training objective of a config: loss_fn(params, stats, batch, key, step) -> (loss, Aux), see `total_loss`.

    Args:
      config: an experiment, see configs/base.py.
      depth_net: image -> DepthOutput, see models.build.
      pose_net: image pair -> axis-angle and translation; None where every source is the stereo view.
      learnt: what methods learn beside the networks, by their names in METHODS.
    """
    data, mode = config.data, mode_of(config)
    prepare = partial(
        augment,
        flip=data.flip,
        strength=tuple(data.jitter),
        grey=data.grey,
        camera_effects=data.camera_effects,
        canonical_focal=config.model.canonical_focal,
    )
    views, methods = {}, {}
    for name, module in SECOND_VIEWS.items():
        if uses_view(config, name):
            views[name] = partial(module.view, module.Settings.of(config))
    for name, method in METHODS.items():
        if uses(config, *method.losses):
            methods[name] = partial(method.terms, method.settings(config, (learnt or {}).get(name)))
    parts = Parts(
        config.loss,
        prepare,
        partial(apply, depth_net, "depth", **mode),
        partial(apply, pose_net, "pose", **mode) if pose_net is not None else None,
        uses(config, "photometric", "smoothness") or bool(views),
        reprojection.Settings.of(config),
        second_view.Settings.of(config),
        views,
        methods,
    )
    return partial(total_loss, parts)
