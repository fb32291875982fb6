"""From a config to what the loop runs: networks, initial state and the compiled step."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from robustdepth.interop.convert import load_pretrained
from robustdepth.methods.objective import make_loss_fn
from robustdepth.models.build import build_depth_net, build_pose_net
from robustdepth.runtime import sharding
from robustdepth.training.optimizer import make_optimizer
from robustdepth.training.step import StepLog, make_step
from robustdepth.types import TEMPORAL, Batch, PyTree, TrainState


class Experiment(NamedTuple):
    """What a config means on a mesh."""

    template: TrainState  # ShapeDtypeStructs with shardings, for restoring
    initial_state: Callable[[], TrainState]
    step: Callable[[TrainState, Batch], tuple[TrainState, StepLog]]


def build_networks(config: ConfigDict) -> tuple[nn.Module, nn.Module | None]:
    """The depth network, and the pose network where a source view is temporal."""
    temporal = any(name in TEMPORAL for name in config.data.views)
    return build_depth_net(config.model), build_pose_net(config.model) if temporal else None


def init_variables(config: ConfigDict, depth_net: nn.Module, pose_net: nn.Module | None) -> dict[str, PyTree]:
    """Random variables of the networks, {"depth": ..., "pose": ...}: a pure function of the seed."""
    depth_key, pose_key = jax.random.split(jax.random.key(config.seed))
    image = jnp.zeros((1, *config.image_size, 3))
    variables = {"depth": depth_net.init(depth_key, image, train=False)}
    if pose_net is not None:
        variables["pose"] = pose_net.init(pose_key, image, image, train=False)
    return variables


def make_state(config: ConfigDict, variables: dict[str, PyTree], optimizer: optax.GradientTransformation) -> TrainState:
    """The state at step 0 of given variables."""
    params = {name: tree["params"] for name, tree in variables.items()}
    stats = {name: tree.get("batch_stats", {}) for name, tree in variables.items()}
    zero = jnp.zeros((), jnp.int32)
    return TrainState(
        step=zero,
        params=params,
        stats=stats,
        opt_state=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params) if config.optimizer.ema_decay else {},
        skipped=zero,
        skipped_in_row=zero,
    )


def build(config: ConfigDict, mesh: Mesh) -> Experiment:
    """Networks, sharded initial state (created where it lives) and the jitted step of a config."""
    depth_net, pose_net = build_networks(config)
    optimizer = make_optimizer(config)

    def initialise() -> TrainState:
        return make_state(config, init_variables(config, depth_net, pose_net), optimizer)

    shapes = jax.eval_shape(initialise)
    places = sharding.shardings_by_rules(shapes, config.sharding.rules, mesh)
    template = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, places)

    def initial_state() -> TrainState:
        if not (config.model.pretrained or config.model.pose_pretrained):
            return jax.jit(initialise, out_shardings=places)()
        variables = jax.jit(lambda: init_variables(config, depth_net, pose_net))()
        depth, pose, reports = load_pretrained(config.model, variables["depth"], variables.get("pose"))
        variables = {"depth": depth} | ({"pose": pose} if pose is not None else {})
        for report in reports:
            print(report)
        return jax.jit(lambda v: make_state(config, v, optimizer), out_shardings=places)(variables)

    step = jax.jit(
        make_step(config, make_loss_fn(config, depth_net, pose_net), optimizer),
        in_shardings=(places, sharding.batch_sharding(mesh)),
        out_shardings=(places, sharding.replicated(mesh)),
        donate_argnums=0,
    )
    return Experiment(template, initial_state, step)
