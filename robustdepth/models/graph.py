"""Learnable isomorphic graphs over feature maps (METHOD.md 3.1 to 3.4).

**[paper]** features are flattened to vectors, the nodes, and student and expert are compared through learnable graphs
of the same shape. **[ours]** all equations: the edges are attention (Vaswani et al., NeurIPS 2017) with a bias for
relative positions (Liu et al., ICCV 2021), and one edge function serves both graphs.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int

from robustdepth.errors import UserError
from robustdepth.models.layers import HE_FAN_IN
from robustdepth.types import Array

Head = int | Int[Array, ""]
Grid = tuple[int, int]  # rows and columns of the nodes


def vec(features: Float[Array, "batch rows columns channels"]) -> Float[Array, "batch nodes channels"]:
    """Every position of a feature map as a node, row by row, in float32."""
    batch, rows, columns, channels = features.shape
    return features.reshape(batch, rows * columns, channels).astype(jnp.float32)


class PositionBias(nn.Module):
    """P: one learnable number per head and offset between two nodes of the grid that it was initialised for."""

    heads: int

    @nn.compact
    def __call__(self, grid: Grid, head: Head) -> Float[Array, "nodes nodes"]:
        rows, columns = grid
        shape = (self.heads, 2 * rows - 1, 2 * columns - 1)
        if self.has_variable("params", "table"):
            self._check(self.get_variable("params", "table").shape, shape)
        table = self.param("table", nn.initializers.zeros, shape)
        down = np.subtract.outer(np.arange(rows), np.arange(rows)) + rows - 1
        right = np.subtract.outer(np.arange(columns), np.arange(columns)) + columns - 1
        bias = table[head][down[:, None, :, None], right[None, :, None, :]]
        return bias.reshape(rows * columns, rows * columns)

    def _check(self, known: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        if known != wanted:
            (_, *theirs), (_, *ours) = known, wanted
            first, second = (f"{(r + 1) // 2}x{(c + 1) // 2}" for r, c in (theirs, ours))
            raise UserError(
                f"the semantic graph was made for {first} nodes and got {second}: its position bias belongs to one "
                "grid; keep config.image_size and config.semantics.stride, or set config.semantics.graph to fixed "
                "or none."
            )


class StructureGraph(nn.Module):
    """Graphs of a student's and an expert's features with one shared edge function, in float32.

        X^m  = LN(vec(F^m) W_m)                                  `nodes_student`, `nodes_expert`
        A^xy = softmax_j((X^x Theta_q)(X^y Theta_k)^T/sqrt(d) + P)   `edges`, as log A; d = width / heads
        Z^xy = A^xy X^y Theta_v                                  `aggregate`
        F^t ~ Z^t W_r                                            `reconstruct`

    The normalisation LN has no parameters of its own, the projections that follow would absorb them. Who trains what is
    not decided here but where the losses are stated, in `methods.semantics`.

    Memory: an edge matrix has batch x nodes^2 numbers a head, 79 MB for a batch of 12 on a grid of 20x64. `edges` and
    `aggregate` therefore work on one head, and callers loop with `each_head`. The losses of `methods.semantics` and
    their gradients then take the room of about nine such matrices for two students (seven for one), however many heads
    there are.

    Attributes:
      expert_channels: channels of the expert's features.
      width: channels of a node.
      heads: edge sets, each over its own width / heads channels.
    """

    expert_channels: int
    width: int = 128
    heads: int = 4

    def setup(self) -> None:
        def linear(width: int) -> nn.Dense:
            return nn.Dense(width, use_bias=False, kernel_init=HE_FAN_IN)

        self.w_student, self.w_expert = linear(self.width), linear(self.width)
        self.w_reconstruct = linear(self.expert_channels)
        self.norm = nn.LayerNorm(epsilon=1e-5, use_bias=False, use_scale=False, use_fast_variance=False)
        # Variance 2 of queries and keys: logits deviate by 2, rows start at about 70% of a uniform row's entropy.
        theta = (HE_FAN_IN, (self.width, self.width))
        self.theta_query, self.theta_key, self.theta_value = (
            self.param(f"theta_{name}", *theta) for name in ("query", "key", "value")
        )
        self.position = PositionBias(self.heads)

    def __call__(
        self, student: Float[Array, "batch rows columns _"], expert: Float[Array, "batch rows columns channels"]
    ) -> Float[Array, "batch nodes channels"]:
        """The expert's features rebuilt from the student's nodes along the edges between both; init traces this."""
        x, y, grid = self.nodes_student(student), self.nodes_expert(expert), (student.shape[1], student.shape[2])
        heads = [self.aggregate(self.edges(y, x, grid, head), x, head) for head in range(self.heads)]
        return self.reconstruct(jnp.concatenate(heads, axis=-1))

    def nodes_student(self, features: Float[Array, "batch rows columns _"]) -> Float[Array, "batch nodes width"]:
        """X^s of a student's feature map."""
        return self.norm(self.w_student(vec(features)))

    def nodes_expert(self, features: Float[Array, "batch rows columns _"]) -> Float[Array, "batch nodes width"]:
        """X^t of the expert's feature map."""
        return self.norm(self.w_expert(vec(features)))

    def edges(
        self, x: Float[Array, "batch nodes width"], y: Float[Array, "batch nodes width"], grid: Grid, head: Head
    ) -> Float[Array, "batch nodes nodes"]:
        """log A^xy of one head: how the nodes x (rows) look at the nodes y (columns), both on `grid`.

        Raises:
          UserError: the parameters were initialised for another grid.
        """
        query, key = x @ self._columns(self.theta_query, head), y @ self._columns(self.theta_key, head)
        logits = jnp.einsum("bid,bjd->bij", query, key) / math.sqrt(self.width // self.heads)
        return jax.nn.log_softmax(logits + self.position(grid, head)[None])

    def aggregate(
        self, edges: Float[Array, "batch nodes nodes"], y: Float[Array, "batch nodes width"], head: Head
    ) -> Float[Array, "batch nodes head_width"]:
        """Z^xy of one head: what the nodes receive from y along the edges log A^xy."""
        return jnp.exp(edges) @ (y @ self._columns(self.theta_value, head))

    def reconstruct(self, z: Float[Array, "batch nodes width"]) -> Float[Array, "batch nodes channels"]:
        """The expert's features as the aggregates of all heads tell them."""
        return self.w_reconstruct(z)

    def _columns(self, theta: Array, head: Head) -> Array:
        size = self.width // self.heads
        return lax.dynamic_slice_in_dim(theta, head * size, size, axis=1)


def each_head(heads: int, body):
    """`body(head)` for every head, results stacked along a new first axis.

    One after another, and computed again on the way back, so that the edge matrices of one head only are in memory.
    """
    return lax.map(jax.checkpoint(body, prevent_cse=False), jnp.arange(heads))


def join_heads(z: Float[Array, "head batch nodes head_width"]) -> Float[Array, "batch nodes width"]:
    """Aggregates of all heads side by side."""
    heads, batch, nodes, width = z.shape
    return jnp.moveaxis(z, 0, 2).reshape(batch, nodes, heads * width)
