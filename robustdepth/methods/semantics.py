"""Semantic-structural correlation: a frozen expert teaches through graphs of its features (METHOD.md section 3).

**[paper]** a pre-trained semantic expert, frozen, distils into the depth network through learnable isomorphic graphs;
**[ours]** the equations. With X, A, Z of `models.graph`, s the student, t the expert, sg the stop-gradient:

    edge   = mean_i KL(sg A^t_i || A^s_i)
    node   = mean 1 - cos(Z^s, sg Z^t) + 1/2 mean 1 - cos(Z^st, sg Z^t)
    anchor = mean 1 - cos(W_r Z~^t, sg vec F^t)  over the nodes that were dropped

Edge and node train the student's features and W_s alone: Theta, P and X^t enter them as constants. The anchor trains
the rest (W_t, Theta, P, W_r) and keeps the graph from collapsing. It drops nodes at random: their keys and values are
zero, and their features must be rebuilt from the other nodes. A dropped node keeps its own query. With a query of zero
its edges would depend on P alone, and no loss would train Theta_q and Theta_k.

Ablations: "fixed" compares cosine affinities of the raw features, "none" the features themselves.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

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
from robustdepth.models.graph import StructureGraph, each_head, join_heads, vec
from robustdepth.models.layers import HE_FAN_IN
from robustdepth.types import Array, PyTree, Term

LEARNED, FIXED, NONE = "learned", "fixed", "none"
TEMPERATURE = 0.1  # of the fixed graph's affinities: cosines of a feature map's nodes differ by a few tenths
Maps = Sequence[Float[Array, "batch rows columns channels"]]
Losses = dict[str, Term]


def graph_for(config: ConfigDict, expert_channels: int) -> nn.Module | None:
    """What `config.semantics.graph` learns beside the networks; None where that is nothing ("fixed").

    Raises:
      UserError: an unknown mode, or a width that the heads do not divide.
    """
    semantics = config.semantics
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


def init_graph(config: ConfigDict, student_shape: tuple[int, ...], expert_shape: tuple[int, ...], key: Array) -> PyTree:
    """Random parameters of `graph_for`'s module, {} where it has none.

    Args:
      config: the whole config.
      student_shape: [batch, rows, columns, channels] of the student's features; their grid becomes the graph's.
      expert_shape: likewise of the expert's, whose grid may be another.
      key: for the random weights.
    """
    graph = graph_for(config, expert_shape[-1])
    if graph is None:
        return {}
    student = jnp.zeros((1, *student_shape[1:]))
    maps = (
        (student, jnp.zeros((*student.shape[:3], expert_shape[-1])))
        if config.semantics.graph == LEARNED
        else (student,)
    )
    return graph.init(key, *maps)["params"]


def semantic_terms(
    graph: nn.Module | None,
    params: PyTree,
    students: Sequence[Array],
    expert: Float[Array, "batch _ _ channels"],
    config: ConfigDict,
    key: Array,
) -> tuple[Losses, Losses]:
    """The losses of section 3, unweighted and without the ramp.

    All is computed in float32 and per sample. No gradient reaches the expert's features.

    Args:
      graph: `graph_for`'s module.
      params: its parameters.
      students: feature maps [batch, rows, columns, channels] of the views that learn; losses are their mean.
      expert: the expert's features of the clean view; resized to the students' grid.
      config: the whole config; `semantics` counts here.
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
    if config.semantics.graph == NONE:
        assert graph is not None
        projected = [graph.apply({"params": params}, vec(student)) for student in students]
        return {"semantics_node": Term(mean([cosine_distance(p, vec(target)) for p in projected]), samples)}, {}
    if config.semantics.graph == FIXED:
        edge, entropy = fixed_edges(students, target)
        return {"semantics_edge": Term(edge, samples)}, {"graph_entropy": Term(entropy, samples)}
    assert isinstance(graph, StructureGraph)
    edge, node, entropy = student_losses(graph, params, students, target)
    dropped = drop_nodes(key, (target.shape[0], grid[0] * grid[1]), config.semantics.dropped)
    losses = {
        "semantics_edge": Term(edge, samples),
        "semantics_node": Term(node, samples),
        "semantics_anchor": anchor_loss(graph, params, target, dropped),
    }
    return losses, {"graph_entropy": Term(entropy, samples)}


def student_losses(graph: StructureGraph, params: PyTree, students: Maps, target: Array) -> tuple[Array, Array, Array]:
    """Edge and node loss (METHOD.md 3.5), means over the students, and the row entropy of A^t.

    Of the parameters only W_s gets a gradient.
    """
    frozen = partial(graph.apply, {"params": lax.stop_gradient(params)})
    grid = target.shape[1:3]
    x_t = frozen(target, method="nodes_expert")
    x_s = [graph.apply({"params": params}, student, method="nodes_student") for student in students]

    def one_head(head: Array):
        a_t = frozen(x_t, x_t, grid, head, method="edges")
        z_t = frozen(a_t, x_t, head, method="aggregate")
        edge, z_s, z_st = [], [], []
        for x in x_s:
            a_s = frozen(x, x, grid, head, method="edges")
            edge.append(edge_divergence(a_t, a_s))
            z_s.append(frozen(a_s, x, head, method="aggregate"))
            z_st.append(frozen(frozen(x, x_t, grid, head, method="edges"), x_t, head, method="aggregate"))
        return mean(edge), row_entropy(a_t), z_t, z_s, z_st

    edge, entropy, z_t, z_s, z_st = each_head(graph.heads, one_head)
    z_t, z_s, z_st = jax.tree.map(join_heads, (z_t, z_s, z_st))
    node = mean(
        [cosine_distance(z, z_t) + 0.5 * cosine_distance(cross, z_t) for z, cross in zip(z_s, z_st, strict=True)]
    )
    return jnp.mean(edge), node, jnp.mean(entropy)


def drop_nodes(key: Array, shape: tuple[int, int], share: float) -> Bool[Array, "batch nodes"]:
    """Nodes that the anchor drops, each with probability `share`; shape is [batch, nodes]."""
    return jax.random.bernoulli(key, share, shape)


def anchor_loss(graph: StructureGraph, params: PyTree, target: Array, dropped: Bool[Array, "batch nodes"]) -> Term:
    """How badly the dropped nodes' features are told by what they receive from the others (METHOD.md 3.4)."""
    live = partial(graph.apply, {"params": params})
    x: Any = live(target, method="nodes_expert")
    kept = jnp.where(dropped[..., None], 0.0, x)

    def one_head(head: Array) -> Array:
        return live(live(x, kept, target.shape[1:3], head, method="edges"), kept, head, method="aggregate")

    rebuilt = live(join_heads(each_head(graph.heads, one_head)), method="reconstruct")
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
