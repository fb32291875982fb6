"""Which conditions to render, as text for configs and command lines: "fog(0.2-1.0)|night|rain+night"."""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from robustdepth.conditions.blur import defocus, motion_blur
from robustdepth.conditions.condition import Condition
from robustdepth.conditions.fog import fog
from robustdepth.conditions.lens import glare, lens_drops
from robustdepth.conditions.night import dawn, dusk, night
from robustdepth.conditions.precipitation import rain, snow
from robustdepth.conditions.sensor import sensor_noise
from robustdepth.errors import UserError, nearest
from robustdepth.types import Array, Camera

CONDITIONS: dict[str, Condition] = {
    "fog": fog,
    "rain": rain,
    "snow": snow,
    "night": night,
    "dawn": dawn,
    "dusk": dusk,
    "motion_blur": motion_blur,
    "defocus": defocus,
    "sensor_noise": sensor_noise,
    "lens_drops": lens_drops,
    "glare": glare,
}
USUAL = (0.3, 1.0)  # severities where a spec names none
_PART = re.compile(r"(?P<name>\w+)(?:\((?P<low>[^()-]+)-(?P<high>[^()-]+)\))?")


class Part(NamedTuple):
    """One condition with the range that its severity is drawn from, uniformly."""

    name: str
    low: float
    high: float


Spec = tuple[tuple[Part, ...], ...]  # alternatives, each a sequence of conditions applied in order


def parse(text: str) -> Spec:
    """Reads a spec: alternatives between "|", conditions of one alternative joined by "+", severities as "(low-high)".

    Raises:
      UserError: names the part that cannot be read, the unknown condition, or the severity out of range.
    """
    return tuple(
        tuple(_parse_part(part.strip(), text) for part in alternative.split("+")) for alternative in text.split("|")
    )


def _parse_part(part: str, text: str) -> Part:
    match = _PART.fullmatch(part)
    if not match:
        raise UserError(
            f'"{part}" in the conditions "{text}" cannot be read: write a condition, or one with its severities, '
            'such as fog(0.2-1.0); join with "+", and part alternatives with "|".'
        )
    name = match["name"]
    if name not in CONDITIONS:
        raise UserError(f'unknown condition "{name}" in "{text}": {nearest(name, CONDITIONS)}')
    if match["low"] is None:
        return Part(name, *USUAL)
    try:
        low, high = float(match["low"]), float(match["high"])
    except ValueError:
        raise UserError(f'severities of "{part}" in "{text}" are no numbers: write {name}(0.2-1.0).') from None
    if not 0.0 <= low <= high <= 1.0:
        raise UserError(f'severities of "{part}" in "{text}" must rise within 0 to 1, such as {name}(0.2-1.0).')
    return Part(name, low, high)


def render_condition(
    spec: Spec,
    image: Float[Array, "batch height width 3"],
    depth: Float[Array, "batch height width"],
    camera: Camera,
    key: Array,
) -> tuple[Float[Array, "batch height width 3"], Int[Array, "batch"]]:
    """Renders one alternative of `spec`, drawn uniformly, for every sample; returns the images and what was drawn.

    All alternatives are rendered for the whole batch and selected from: a branch per sample would run samples one by
    one, wait for the host on GPUs, and gather batches that are sharded over devices. So a spec costs the sum of its
    parts, which is small beside a training step.

    Args:
      image: in [0, 1].
      depth: in metres.
      camera: batched.
      key: the images are a pure function of it.
    """
    batch = image.shape[0]
    draw_key, key = jax.random.split(key)
    drawn = jax.random.randint(draw_key, (batch,), 0, len(spec))
    out = image
    for number, alternative in enumerate(spec):
        rendered = image
        for order, part in enumerate(alternative):
            severity_key, part_key = jax.random.split(jax.random.fold_in(key, 100 * number + order))
            severity = jax.random.uniform(severity_key, (batch,), minval=part.low, maxval=part.high)
            rendered = CONDITIONS[part.name](rendered, depth, camera, part_key, severity)
        out = jnp.where((drawn == number)[:, None, None, None], rendered, out)
    return out, drawn
