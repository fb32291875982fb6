"""From a config to what the loop runs: networks, initial state and the compiled step."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from robustdepth.data.expert_cache import ExpertCache
from robustdepth.interop.convert import load_pretrained
from robustdepth.methods.expert_training import make_segmentation_loss
from robustdepth.methods.method import LossFn
from robustdepth.methods.objective import make_loss_fn
from robustdepth.methods.semantics import graph_for, init_graph
from robustdepth.methods.stereo_training import make_stereo_loss
from robustdepth.methods.transfer import init_transfer, transfer_for
from robustdepth.models.build import build_networks
from robustdepth.runtime import distributed, sharding
from robustdepth.runtime.init_from import init_from
from robustdepth.streams import initial_key
from robustdepth.switches import uses_proxy, uses_semantics, uses_start, uses_transfer
from robustdepth.teachers.experts import load_expert, open_expert_cache
from robustdepth.teachers.starting_network import load_starting_network
from robustdepth.teachers.stereo_teacher import load_teacher, read_pretrained
from robustdepth.training.optimizer import make_optimizer
from robustdepth.training.step import StepLog, make_step
from robustdepth.types import Batch, PyTree, TrainState


class Experiment(NamedTuple):
    """What a config means on a mesh."""

    template: TrainState  # ShapeDtypeStructs with shardings, for restoring
    initial_state: Callable[[], TrainState]
    step: Callable[[TrainState, Batch], tuple[TrainState, StepLog]]
    expert_cache: ExpertCache | None = None  # the expert's features of the recordings, where they are kept on disk
    teachers: PyTree = ()  # their weights


def init_variables(config: ConfigDict, networks: Mapping[str, nn.Module]) -> dict[str, PyTree]:
    """Random variables of the networks by name; each is a pure function of the seed and its name."""
    image = jnp.zeros((1, *config.image_size, 3))
    variables = {}
    for name, network in networks.items():
        images = (image, image) if name in ("pose", "stereo") else (image,)
        variables[name] = network.init(initial_key(config.seed, name), *images, train=False)
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
        ema=jax.tree.map(jnp.copy, {"params": params, "stats": stats}) if config.optimizer.ema_decay else {},
        skipped=zero,
        skipped_in_row=zero,
    )


def build(config: ConfigDict, mesh: Mesh) -> Experiment:
    """Networks, sharded initial state (created where it lives) and the jitted step of a config."""
    networks = build_networks(config)
    teachings = build_teachings(config, networks, mesh)
    optimizer = make_optimizer(config)

    def draw() -> dict[str, PyTree]:
        learnt = {name: {"params": teaching.init()} for name, teaching in teachings.items() if teaching.init}
        return init_variables(config, networks) | learnt

    shapes = jax.eval_shape(lambda: make_state(config, draw(), optimizer))
    places = sharding.shardings_by_rules(shapes, config.sharding.rules, mesh)
    template = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, places)

    def initial_state() -> TrainState:
        loaded = weights_to_start_from(lambda: load_variables(config, draw))
        if loaded is None:  # every device draws what it holds
            return jax.jit(lambda: make_state(config, draw(), optimizer), out_shardings=places)()
        return jax.jit(lambda v: make_state(config, v, optimizer), out_shardings=places)(loaded)

    split, whole = sharding.batch_sharding(mesh), sharding.replicated(mesh)
    step = jax.jit(
        make_step(config, make_loss(config, networks, teachings), optimizer, mesh),
        in_shardings=(places, split),
        out_shardings=(places, StepLog._make((whole, whole, whole, split))),  # ok, skipped_in_row, terms, images
        donate_argnums=0,
    )
    if not teachings:
        return Experiment(template, initial_state, step)
    caches = [teaching.cache for teaching in teachings.values() if teaching.cache]
    taught = TaughtStep(step, tuple(teaching.teach for teaching in teachings.values()))
    weights = {name: teaching.variables for name, teaching in teachings.items()}
    return Experiment(template, initial_state, taught, caches[0] if caches else None, weights)


def agreed(build: Callable[[ConfigDict, Mesh], Experiment], config: ConfigDict, mesh: Mesh) -> Experiment:
    """What `build` gives, once it has succeeded on all processes, and with the same teachers on each.

    Raises:
      UserError: on every process.
    """
    experiment = distributed.together(lambda: build(config, mesh))
    check_same_weights(experiment.teachers, "the teachers' weights")
    return experiment


def check_same_weights(tree: PyTree, what: str) -> None:
    """Refuses a job whose processes have read other numbers from files of one name. Raises UserError on all of them."""
    if jax.process_count() == 1:
        return
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        here = leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf
        digest.update(np.asarray(here).tobytes())
    distributed.check_same({f"the SHA-256 of {what}": digest.hexdigest()})


def weights_to_start_from(read: Callable[[], PyTree]) -> PyTree:
    """What `read` gives, once it has on all processes, and the same on each. Raises UserError on all of them."""
    weights = distributed.together(read)
    check_same_weights(weights, "the weights to start from")
    return weights


def load_variables(config: ConfigDict, draw: Callable[[], dict[str, PyTree]]) -> dict[str, PyTree] | None:
    """Variables of which some come from weight files, the others drawn; None where the config names no file."""
    if config.task == "stereo" and config.stereo.pretrained:
        return {"stereo": read_pretrained(config.stereo)}
    if config.init_from:
        variables, lines = init_from(config.init_from, jax.jit(draw)())
        print(*lines, sep="\n")
        return variables
    if not (config.model.pretrained or config.model.pose_pretrained):
        return None
    variables = jax.jit(draw)()
    filled, pose, reports = load_pretrained(config.model, variables[config.task], variables.get("pose"))
    print(*reports, sep="\n")
    return variables | {config.task: filled} | ({"pose": pose} if pose is not None else {})


def make_loss(config: ConfigDict, networks: Mapping[str, nn.Module], teachings: Mapping[str, "Teaching"]) -> LossFn:
    """The objective of the config's task."""
    if config.task == "segmentation":
        return make_segmentation_loss(config, networks["segmentation"])
    if config.task == "stereo":
        return make_stereo_loss(config, networks["stereo"])
    learnt = {name: teaching.module for name, teaching in teachings.items()}
    return make_loss_fn(config, networks["depth"], networks.get("pose"), learnt)


@dataclasses.dataclass(frozen=True)
class TaughtStep:
    """The step of a student whose teachers complete the batch first, by programs of their own."""

    student_step: Any  # jitted
    teachers: tuple[Callable[[Batch], Batch], ...]

    def teach(self, batch: Batch) -> Batch:
        return reduce(lambda taught, teach: teach(taught), self.teachers, batch)

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, StepLog]:
        return self.student_step(state, self.teach(batch))

    def lower(self, state: TrainState, batch: Batch) -> jax.stages.Lowered:
        """As a jitted function's; the programs of the teachers are not part of it."""
        return self.student_step.lower(state, jax.eval_shape(self.teach, batch))


class Teaching(NamedTuple):
    """A frozen network that teaches, and what learns beside it."""

    teach: Callable[[Batch], Batch]  # adds what the teacher sees to a batch that lacks it
    module: nn.Module | None = None  # what compares the teacher with the student, where that has parameters
    init: Callable[[], PyTree] | None = None  # its random parameters
    cache: ExpertCache | None = None
    variables: PyTree = ()  # the teacher's own


def build_teachings(config: ConfigDict, networks: Mapping[str, nn.Module], mesh: Mesh) -> dict[str, Teaching]:
    """The teachers of the config, by the names of the methods that learn from them."""
    teachings = {}
    if uses_semantics(config):
        teachings["semantics"] = semantic_teaching(config, networks["depth"], mesh)
    if uses_transfer(config) or (uses_proxy(config) and config.selective.proxy == "stereo_net"):
        teachings["transfer"] = stereo_teaching(config, networks["depth"], mesh)
    if uses_start(config):
        depth = {"depth": networks["depth"]}
        drawn = jax.jit(lambda: init_variables(config, depth)["depth"])()
        start = load_starting_network(config, depth["depth"], drawn, mesh)
        teachings["start"] = Teaching(start.teach, variables=start.variables)
    return teachings


def decoded_shapes(config: ConfigDict, depth_net: nn.Module) -> dict[int, tuple[int, ...]]:
    """Shapes of the depth network's decoder features by stride, for one image."""
    image = jax.ShapeDtypeStruct((1, *config.image_size, 3), jnp.float32)
    student, _ = jax.eval_shape(
        lambda key, x: depth_net.init_with_output(key, x, train=False), jax.random.key(0), image
    )
    return {stride: features.shape for stride, features in student.decoded.items()}


def stereo_teaching(config: ConfigDict, depth_net: nn.Module, mesh: Mesh) -> Teaching:
    """The stereo network of the config, and what compares its geometry with the depth network's features."""
    with_features = uses_transfer(config)
    teacher = load_teacher(config.selective.teacher, tuple(config.image_size), mesh, transfer=with_features)
    if not with_features:
        return Teaching(teacher.teach, variables=teacher.variables)
    transfer = transfer_for(config.loss, *teacher.shapes(tuple(config.image_size)))

    def init() -> PyTree:
        return init_transfer(transfer, decoded_shapes(config, depth_net), initial_key(config.seed, "transfer"))

    return Teaching(teacher.teach, transfer, init, variables=teacher.variables)


def semantic_teaching(config: ConfigDict, depth_net: nn.Module, mesh: Mesh) -> Teaching:
    """The semantic expert of the config, and the graph that compares it with the depth network's features."""
    image = jax.ShapeDtypeStruct((1, *config.image_size, 3), jnp.float32)
    expert = load_expert(config.semantics, tuple(config.image_size), mesh)
    expert_shape = expert.shape(image)
    student_shape = decoded_shapes(config, depth_net)[config.semantics.stride]
    graph = graph_for(config.semantics, expert_shape[-1])

    def init() -> PyTree:
        return init_graph(graph, student_shape, expert_shape, initial_key(config.seed, "semantics"))

    cache = open_expert_cache(config, expert) if config.semantics.cache else None
    return Teaching(expert.teach, graph, init, cache, expert.variables)
