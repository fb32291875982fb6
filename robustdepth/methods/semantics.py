"""Semantic-structural correlation: a frozen expert teaches through graphs of its features (METHOD.md section 3).

**[paper]** a pre-trained semantic expert, frozen, distils into the depth network through learnable isomorphic graphs;
**[ours]** the equations. With X, A, Z of `models.graph`, s the student, t the expert, sg the stop-gradient:

    semantics_edge   = mean_i KL(sg A^t_i || A^s_i)
    semantics_node   = mean 1 - cos(Z^s, sg Z^t) + 1/2 mean 1 - cos(Z^st, sg Z^t)
    semantics_anchor = mean 1 - cos(W_r Z~^t, sg vec F^t)  over the nodes that were dropped

Edge and node train the student's features and W_s alone: Theta, P and X^t enter them as constants. The anchor trains
the rest (W_t, Theta, P, W_r) and keeps the graph from collapsing. It drops nodes at random: their keys and values are
zero, and their features must be rebuilt from the other nodes. A dropped node keeps its own query. With a query of zero
its edges would depend on P alone, and no loss would train Theta_q and Theta_k.

Ablations: "fixed" compares cosine affinities of the raw features, "none" the features themselves.
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from robustdepth.errors import UserError, nearest
from robustdepth.imaging.resize import resize_image
from robustdepth.losses.distillation import (
    cosine_distance,
    direction,
    edge_divergence,
    masked_cosine_distance,
    row_entropy,
)
from robustdepth.methods.method import METHODS, Method, Seen, Terms
from robustdepth.models.graph import StructureGraph, each_head, join_heads, vec
from robustdepth.models.layers import HE_FAN_IN
from robustdepth.switches import SEMANTIC_TERMS
from robustdepth.types import Array, PyTree, Term

LEARNED, FIXED, NONE = "learned", "fixed", "none"
TEMPERATURE = 0.1  # of the fixed graph's affinities: cosines of a feature map's nodes differ by a few tenths
Maps = Sequence[Float[Array, "batch rows columns channels"]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """config.semantics, and what learns beside the networks."""

    mode: str  # LEARNED, FIXED or NONE
    graph: nn.Module | None  # `graph_for`'s module
    stride: int  # of the student's features
    views: tuple[str, ...]  # that the student learns in: "clean", "perturbed"
    dropped: float  # share of the expert's nodes that the anchor loss hides

    @classmethod
    def of(cls, config: ConfigDict, graph: nn.Module | None) -> "Settings":
        own = config.semantics
        return cls(own.graph, graph, own.stride, tuple(own.views), own.dropped)

    def students(self, seen: Seen) -> list[Array]:
        """Feature maps of the views that learn."""
        outputs = {"clean": [seen.output], "perturbed": list(seen.changed.values())}
        return [output.decoded[self.stride] for view in self.views for output in outputs[view]]


def graph_for(semantics: ConfigDict, expert_channels: int) -> nn.Module | None:
    """What `config.semantics` learns beside the networks; None where that is nothing ("fixed").

    Raises:
      UserError: an unknown mode, or a width that the heads do not divide.
    """
    if semantics.graph == FIXED:
        return None
    if semantics.graph == NONE:
        return nn.Dense(expert_channels, use_bias=False, kernel_init=HE_FAN_IN)
    if semantics.graph != LEARNED:
        raise UserError(
            f'config.semantics.graph="{semantics.graph}": {nearest(semantics.graph, (LEARNED, FIXED, NONE))}'
        )
    if semantics.heads < 1 or semantics.width % semantics.heads:
        raise UserError(
            f"config.semantics.width={semantics.width} does not divide into config.semantics.heads={semantics.heads} "
            "heads; 128 and 4 are usual."
        )
    return StructureGraph(expert_channels, semantics.width, semantics.heads)


def init_graph(
    graph: nn.Module | None, student_shape: tuple[int, ...], expert_shape: tuple[int, ...], key: Array
) -> PyTree:
    """Random parameters of `graph_for`'s module, {} where that is None.

    Args:
      graph: what compares student and expert.
      student_shape: [batch, rows, columns, channels] of the student's features; their grid becomes the graph's.
      expert_shape: likewise of the expert's, whose grid may be another.
      key: for the random weights.
    """
    if graph is None:
        return {}
    student = jnp.zeros((1, *student_shape[1:]))
    expert = jnp.zeros((*student.shape[:3], expert_shape[-1]))
    return graph.init(key, *(student, expert) if isinstance(graph, StructureGraph) else (student,))["params"]


def terms(
    settings: Settings,
    params: PyTree,
    students: Sequence[Array],
    expert: Float[Array, "batch _ _ channels"],
    key: Array,
) -> Terms:
    """The losses of section 3, unweighted and without the ramp.

    All is computed in float32 and per sample. No gradient reaches the expert's features.

    Args:
      params: parameters of `settings.graph`.
      students: feature maps [batch, rows, columns, channels] of the views that learn; losses are their mean.
      expert: the expert's features of the clean view; resized to the students' grid.
      key: chooses the nodes that the anchor drops.

    Returns:
      losses, those of "semantics_edge", "semantics_node" and "semantics_anchor" that the mode has, and quantities to
      watch: "graph_entropy", the mean row entropy of A^t over log N, where the mode has edges.

    Raises:
      UserError: `params` belong to another grid.
    """
    grid = students[0].shape[1:3]
    target = lax.stop_gradient(resize_image(expert.astype(jnp.float32), grid))
    samples = jnp.float32(expert.shape[0])
    graph = settings.graph
    if graph is None:
        edge, entropy = fixed_edges(students, target)
        return Terms({"semantics_edge": Term(edge, samples)}, {"graph_entropy": Term(entropy, samples)})
    if not isinstance(graph, StructureGraph):
        projected = [graph.apply({"params": params}, vec(student)) for student in students]
        return Terms({"semantics_node": Term(mean([cosine_distance(p, vec(target)) for p in projected]), samples)})
    edge, node, entropy = student_losses(graph, params, students, target)
    dropped = drop_nodes(key, (target.shape[0], grid[0] * grid[1]), settings.dropped)
    losses = {
        "semantics_edge": Term(edge, samples),
        "semantics_node": Term(node, samples),
        "semantics_anchor": anchor_loss(graph, params, target, dropped),
    }
    return Terms(losses, {"graph_entropy": Term(entropy, samples)})


def student_losses(graph: StructureGraph, params: PyTree, students: Maps, target: Array) -> tuple[Array, Array, Array]:
    """Edge and node loss (METHOD.md 3.5), means over the students, and the row entropy of A^t.

    Of the parameters only W_s gets a gradient.
    """
    constant, grid = {"params": lax.stop_gradient(params)}, target.shape[1:3]
    x_t = graph.bind(constant).nodes_expert(target)
    x_s = [graph.bind({"params": params}).nodes_student(student) for student in students]

    def one_head(head: Array):
        frozen = graph.bind(constant)  # bound in here: Flax refuses modules that come from outside a transformation
        a_t = frozen.edges(x_t, x_t, grid, head)
        z_t = frozen.aggregate(a_t, x_t, head)
        edge, z_s, z_st = [], [], []
        for x in x_s:
            a_s = frozen.edges(x, x, grid, head)
            edge.append(edge_divergence(a_t, a_s))
            z_s.append(frozen.aggregate(a_s, x, head))
            z_st.append(frozen.aggregate(frozen.edges(x, x_t, grid, head), x_t, head))
        return mean(edge), row_entropy(a_t), z_t, z_s, z_st

    edge, entropy, z_t, z_s, z_st = each_head(graph.heads, one_head)
    z_t, z_s, z_st = jax.tree.map(join_heads, (z_t, z_s, z_st))
    node = mean(
        [cosine_distance(z, z_t) + 0.5 * cosine_distance(cross, z_t) for z, cross in zip(z_s, z_st, strict=True)]
    )
    return jnp.mean(edge), node, jnp.mean(entropy)


def drop_nodes(key: Array, shape: tuple[int, int], share: float) -> Bool[Array, "batch nodes"]:
    """Nodes that the anchor drops, each with probability `share`; shape is [batch, nodes]."""
    return jax.random.bernoulli(key, float(share), shape)


def anchor_loss(graph: StructureGraph, params: PyTree, target: Array, dropped: Bool[Array, "batch nodes"]) -> Term:
    """How badly the dropped nodes' features are told by what they receive from the others (METHOD.md 3.4)."""
    live = {"params": params}
    x = graph.bind(live).nodes_expert(target)
    kept = jnp.where(dropped[..., None], 0.0, x)

    def one_head(head: Array) -> Array:
        bound = graph.bind(live)
        return bound.aggregate(bound.edges(x, kept, target.shape[1:3], head), kept, head)

    rebuilt = graph.bind(live).reconstruct(join_heads(each_head(graph.heads, one_head)))
    return masked_cosine_distance(rebuilt, vec(target), dropped)


def fixed_edges(students: Maps, target: Array) -> tuple[Array, Array]:
    """Edge loss between cosine affinities, mean over the students, and the row entropy of the expert's."""

    def one_graph(_: Array) -> tuple[Array, Array]:
        a_t = affinities(vec(target))
        return mean([edge_divergence(a_t, affinities(vec(student))) for student in students]), row_entropy(a_t)

    edge, entropy = each_head(1, one_graph)
    return edge[0], entropy[0]


def affinities(nodes: Float[Array, "batch nodes channels"]) -> Float[Array, "batch nodes nodes"]:
    """log softmax_j(cos(x_i, x_j) / temperature): edges without anything to learn."""
    towards = direction(nodes)
    return jax.nn.log_softmax(jnp.einsum("bic,bjc->bij", towards, towards) / TEMPERATURE)


def mean(values: Sequence[Array]) -> Array:
    """Mean of a few scalars."""
    return jnp.mean(jnp.stack(values))


METHODS.add(
    "semantics",
    Method(
        SEMANTIC_TERMS,
        Settings.of,
        lambda settings, seen, key: terms(
            settings, seen.params["semantics"], settings.students(seen), seen.clean.expert, key
        ),
    ),
)
