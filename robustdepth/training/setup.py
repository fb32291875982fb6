"""From a config to what the loop runs: networks, initial state and the compiled step."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from robustdepth.data.expert_cache import ExpertCache
from robustdepth.interop.convert import load_pretrained
from robustdepth.methods.objective import make_loss_fn, uses_semantics
from robustdepth.methods.segmentation import make_segmentation_loss
from robustdepth.methods.semantics import graph_for, init_graph
from robustdepth.models.build import build_depth_net, build_pose_net, build_segmentation_net
from robustdepth.runtime import sharding
from robustdepth.runtime.experts import load_expert, open_expert_cache
from robustdepth.training.optimizer import make_optimizer
from robustdepth.training.step import StepLog, make_step
from robustdepth.types import TEMPORAL, Batch, PyTree, TrainState

GRAPH = 2  # folded into the seed: with or without a graph, the networks start from the same numbers


class Experiment(NamedTuple):
    """What a config means on a mesh."""

    template: TrainState  # ShapeDtypeStructs with shardings, for restoring
    initial_state: Callable[[], TrainState]
    step: Callable[[TrainState, Batch], tuple[TrainState, StepLog]]
    expert_cache: ExpertCache | None = None  # the expert's features of the recordings, where they are kept on disk


def build_networks(config: ConfigDict) -> dict[str, nn.Module]:
    """The networks that learn, by name: "depth", with "pose" where a source view is temporal; or "segmentation"."""
    if config.task == "segmentation":
        return {"segmentation": build_segmentation_net(config.model)}
    networks: dict[str, nn.Module] = {"depth": build_depth_net(config.model)}
    if any(name in TEMPORAL for name in config.data.views):
        networks["pose"] = build_pose_net(config.model)
    return networks


def init_variables(config: ConfigDict, networks: Mapping[str, nn.Module]) -> dict[str, PyTree]:
    """Random variables of the networks by name: a pure function of the seed."""
    main_key, pose_key = jax.random.split(jax.random.key(config.seed))
    image = jnp.zeros((1, *config.image_size, 3))
    variables = {}
    for name, network in networks.items():
        images, key = ((image, image), pose_key) if name == "pose" else ((image,), main_key)
        variables[name] = network.init(key, *images, train=False)
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
    networks = build_networks(config)
    teaching = build_teaching(config, networks["depth"], mesh) if uses_semantics(config) else None
    optimizer = make_optimizer(config)

    def all_variables() -> dict[str, PyTree]:
        return init_variables(config, networks) | (teaching.init() if teaching else {})

    shapes = jax.eval_shape(lambda: make_state(config, all_variables(), optimizer))
    places = sharding.shardings_by_rules(shapes, config.sharding.rules, mesh)
    template = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, places)

    def initial_state() -> TrainState:
        if not (config.model.pretrained or config.model.pose_pretrained):
            return jax.jit(lambda: make_state(config, all_variables(), optimizer), out_shardings=places)()
        variables = jax.jit(all_variables)()
        main = next(iter(networks))
        filled, pose, reports = load_pretrained(config.model, variables[main], variables.get("pose"))
        variables |= {main: filled} | ({"pose": pose} if pose is not None else {})
        for report in reports:
            print(report)
        return jax.jit(lambda v: make_state(config, v, optimizer), out_shardings=places)(variables)

    if config.task == "segmentation":
        loss_fn = make_segmentation_loss(config, networks["segmentation"])
    else:
        loss_fn = make_loss_fn(config, networks["depth"], networks.get("pose"), teaching.graph if teaching else None)
    step = jax.jit(
        make_step(config, loss_fn, optimizer),
        in_shardings=(places, sharding.batch_sharding(mesh)),
        out_shardings=(places, sharding.replicated(mesh)),
        donate_argnums=0,
    )
    if teaching is None:
        return Experiment(template, initial_state, step)

    def taught_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepLog]:
        return step(state, teaching.teach(batch))

    return Experiment(template, initial_state, taught_step, teaching.cache)


class Teaching(NamedTuple):
    """A semantic expert and what learns beside it."""

    graph: nn.Module | None
    init: Callable[[], dict[str, PyTree]]  # random variables of the graph
    teach: Callable[[Batch], Batch]  # adds the expert's features to a batch that lacks them
    cache: ExpertCache | None


def build_teaching(config: ConfigDict, depth_net: nn.Module, mesh: Mesh) -> Teaching:
    """The semantic expert of the config, and the graph that compares it with the depth network's features."""
    image = jax.ShapeDtypeStruct((1, *config.image_size, 3), jnp.float32)
    expert = load_expert(config.semantics, tuple(config.image_size), mesh)
    student, _ = jax.eval_shape(
        lambda key, x: depth_net.init_with_output(key, x, train=False), jax.random.key(0), image
    )
    student_shape, expert_shape = student.decoded[config.semantics.stride].shape, expert.shape(image)

    def init() -> dict[str, PyTree]:
        key = jax.random.fold_in(jax.random.key(config.seed), GRAPH)
        return {"semantics": {"params": init_graph(config, student_shape, expert_shape, key)}}

    cache = open_expert_cache(config, expert) if config.semantics.cache else None
    return Teaching(graph_for(config, expert_shape[-1]), init, expert.teach, cache)
