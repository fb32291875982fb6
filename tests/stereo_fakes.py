"""Stereo pairs whose disparity is known exactly, and networks that need no training to answer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robustdepth.imaging.ssim import box_mean
from robustdepth.models.stereo_net import StereoOutput
from robustdepth.types import Batch, Camera


def noise_pair(disparity: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A left image of noise, the right one that whole disparities [height, width] make of it, and what it cannot see.

    Where two pixels of the left image land on one pixel, the nearer is seen; where none lands there is other noise.
    """
    draw = np.random.default_rng(seed)
    height, width = disparity.shape
    left, right = draw.random((2, height, width, 3), dtype=np.float32)
    nearest = np.full((height, width), -1)
    for y, x in np.ndindex(height, width):
        match = x - int(disparity[y, x])
        if match >= 0 and (nearest[y, match] < 0 or disparity[y, nearest[y, match]] < disparity[y, x]):
            nearest[y, match], right[y, match] = x, left[y, x]
    hidden = np.ones((height, width), bool)
    rows, columns = np.nonzero(nearest >= 0)
    hidden[rows, nearest[rows, columns]] = False
    return left, right, hidden


def batch_of(left, right, disparity=None, baseline=0.5) -> Batch:
    """Stereo samples, [batch, height, width, 3] each, with the target as left camera."""
    count, height, width = left.shape[:3]
    return Batch(
        target=left,
        sources=right[:, None],
        source_valid=np.ones((count, 1), bool),
        camera=Camera(
            np.full((count, 2), 0.6 * width, np.float32), np.full((count, 2), 16.0, np.float32), (height, width)
        ),
        baseline=np.full(count, baseline, np.float32),
        speed=np.zeros((count, 1), np.float32),
        index=np.arange(count, dtype=np.int32),
        source_names=("stereo",),
        disparity=disparity,
    )


def mirrored_by_hand(batch: Batch, chosen: np.ndarray) -> Batch:
    """The same samples seen in a mirror: the chosen ones then have the right camera as target."""
    changes = {}
    for name, axis in {"target": 2, "sources": 3, "disparity": 2}.items():
        if getattr(batch, name) is not None:
            changes[name] = np.array(getattr(batch, name))
            changes[name][chosen] = np.flip(changes[name][chosen], axis)
    baseline = np.where(chosen, -batch.baseline, batch.baseline).astype(np.float32)
    return batch.replace(**changes, baseline=baseline)


class Answer(nn.Module):
    """Answers what its parameters say, one map per head."""

    shape: tuple[int, int, int, int]  # heads, batch, height, width
    max_disparity: int = 32

    @nn.compact
    def __call__(self, left, right, train):
        answer = self.param("answer", nn.initializers.zeros, self.shape)
        nothing = jnp.zeros((*left.shape[:3], 1))
        return StereoOutput(tuple(answer), nothing, nothing)


class BlockMatcher(nn.Module):
    """Block matching: the disparity whose windows of 5x5 differ least, to a soft argmin too sharp to be any other."""

    max_disparity: int = 16

    @nn.compact
    def __call__(self, left, right, train):
        sharpness = self.param("sharpness", nn.initializers.constant(60.0), ())
        width = left.shape[2]
        padded = jnp.pad(right, ((0, 0), (0, 0), (self.max_disparity - 1, 0), (0, 0)), constant_values=9.0)
        shifts = [padded[:, :, self.max_disparity - 1 - d :][:, :, :width] for d in range(self.max_disparity)]
        cost = jnp.stack([jnp.abs(left - shifted).mean(-1) for shifted in shifts], axis=1)
        likely = nn.softmax(-sharpness * box_mean(box_mean(cost)), axis=1)
        likely = jnp.moveaxis(likely, 1, -1)
        disparity = likely @ jnp.arange(self.max_disparity, dtype=jnp.float32)
        return StereoOutput((disparity,), at_stride_4(left), at_stride_4(likely))

    def initial(self):
        image = jnp.zeros((1, 16, 16, 3))
        return jax.jit(lambda key: self.init(key, image, image, train=False))(jax.random.key(0))


def at_stride_4(values):
    """Means of 4x4 blocks."""
    batch, height, width, channels = values.shape
    return values.reshape(batch, height // 4, 4, width // 4, 4, channels).mean((2, 4))
