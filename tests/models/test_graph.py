"""The structure graph: its nodes, edges and positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from robustdepth.errors import UserError
from robustdepth.losses.distillation import row_entropy
from robustdepth.models.graph import PositionBias, StructureGraph, each_head, join_heads, vec

DRAW = np.random.default_rng(11)
GRID = (3, 4)
GRAPH = StructureGraph(expert_channels=6, width=8, heads=2)
STUDENT, EXPERT = (jnp.asarray(DRAW.normal(size=(2, *GRID, channels)), jnp.float32) for channels in (5, 6))


@pytest.fixture(scope="module")
def variables():
    return GRAPH.init(jax.random.key(0), STUDENT, EXPERT)


def test_nodes_are_the_positions_of_the_map_row_by_row():
    nodes = vec(STUDENT.astype(jnp.bfloat16))
    assert nodes.dtype == jnp.float32
    np.testing.assert_array_equal(nodes[1, 2 * 4 + 3], STUDENT[1, 2, 3].astype(jnp.bfloat16).astype(jnp.float32))


def test_nodes_are_normalised_and_zero_features_stay_zero(variables):
    x = GRAPH.apply(variables, 1e3 * STUDENT, method="nodes_student")
    assert x.shape == (2, 12, 8)
    np.testing.assert_allclose(x.mean(-1), 0.0, atol=1e-5)
    np.testing.assert_allclose(x.std(-1), 1.0, rtol=1e-3)
    np.testing.assert_array_equal(GRAPH.apply(variables, 0.0 * EXPERT, method="nodes_expert"), 0.0)


def test_edges_are_log_probabilities_that_follow_permuted_nodes(variables):
    x = GRAPH.apply(variables, STUDENT, method="nodes_student")
    y = GRAPH.apply(variables, EXPERT, method="nodes_expert")
    order = DRAW.permutation(12)

    def edges(x, y):
        return GRAPH.apply(variables, x, y, GRID, 1, method="edges")  # P starts at zero: positions do not count

    found = edges(x, y)
    assert found.shape == (2, 12, 12)
    np.testing.assert_allclose(jnp.exp(found).sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(edges(x[:, order], y), found[:, order], atol=1e-5)
    np.testing.assert_allclose(edges(x, y[:, order]), found[:, :, order], atol=1e-5)
    received = GRAPH.apply(variables, found, y, 1, method="aggregate")
    assert received.shape == (2, 12, 4)
    permuted = GRAPH.apply(variables, found[:, :, order], y[:, order], 1, method="aggregate")
    np.testing.assert_allclose(permuted, received, atol=1e-5)


def test_one_hot_edges_fetch_the_value_of_their_node(variables):
    y = GRAPH.apply(variables, EXPERT, method="nodes_expert")
    heads = [GRAPH.apply(variables, jnp.log(jnp.eye(12))[None], y[:1], head, method="aggregate") for head in (0, 1)]
    np.testing.assert_allclose(jnp.concatenate(heads, -1), y[:1] @ variables["params"]["theta_value"], atol=1e-5)


def test_the_position_bias_depends_on_the_offset_alone():
    table = DRAW.permutation(2 * 5 * 7).reshape(2, 5, 7).astype(np.float32)  # every entry another number
    bias = PositionBias(2).apply({"params": {"table": table}}, GRID, 1).reshape(*GRID, *GRID)
    for row, column, other_row, other_column in np.ndindex(*GRID, *GRID):
        expected = table[1, row - other_row + 2, column - other_column + 3]
        assert bias[row, column, other_row, other_column] == expected


def test_another_grid_is_refused(variables):
    x = jnp.zeros((1, 8, 8))
    with pytest.raises(UserError, match=r"made for 3x4 nodes and got 2x4"):
        GRAPH.apply(variables, x, x, (2, 4), 0, method="edges")


def test_heads_lie_side_by_side_and_each_is_run_once_in_order():
    z = jnp.asarray(DRAW.normal(size=(3, 2, 12, 4)), jnp.float32)
    np.testing.assert_array_equal(join_heads(z), np.concatenate(list(z), axis=-1))

    def loss(z):
        return jnp.sum(each_head(3, lambda head: jnp.sin(z[head]) * (head + 1).astype(jnp.float32)))

    np.testing.assert_allclose(jax.grad(loss)(z), np.arange(1, 4)[:, None, None, None] * np.cos(z), rtol=1e-5)


def test_an_untrained_graph_of_unlike_nodes_is_neither_collapsed_nor_uniform():
    width, heads, grid = 128, 4, (12, 40)
    graph = StructureGraph(expert_channels=384, width=width, heads=heads)
    features = jnp.asarray(DRAW.normal(size=(1, *grid, 384)), jnp.float32)
    params = jax.jit(graph.init)(jax.random.key(1), features[:, :1, :2], features[:, :1, :2])["params"]
    params["position"]["table"] = jnp.zeros((heads, 23, 79))
    x = graph.apply({"params": params}, features, method="nodes_expert")
    low, high = base.get_config().health.graph_entropy
    for head in range(heads):
        entropy = float(row_entropy(graph.apply({"params": params}, x, x, grid, head, method="edges")))
        assert low < entropy < high
        assert entropy == pytest.approx(1 - 2 / np.log(480), abs=0.1)  # normal logits of deviation s lose s^2/2
