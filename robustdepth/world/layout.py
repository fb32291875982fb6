"""The street plan: buildings, barriers, vegetation and poles along the road."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float

from robustdepth.types import Array
from robustdepth.world.dice import Dice
from robustdepth.world.ground import Ground, clear_of_crossing
from robustdepth.world.palette import foliage_color, mix, paint_color, stone_color, tinted
from robustdepth.world.solids import CLASSES, PATTERNS, Solids, join, place
from robustdepth.world.traffic import sample_parked, sample_people, sample_traffic

Scalar = Float[Array, ""]
BUILDINGS, BARRIERS, BACKDROPS, TREES, BUSHES, POLES = 7, 5, 4, 8, 8, 4  # per side of the road


def sample_solids(dice: Dice, ground: Ground) -> tuple[Solids, Solids, Solids]:
    """Boxes, columns and crowns of one scene; nothing stands where the camera drives."""
    density = dice(0.0, 1.0, 8)  # of every kind of thing: what makes one street differ from another
    # Both sides at once: half the operations to compile.
    keys, sides = jax.random.split(dice.key(), 2), jnp.array([-1.0, 1.0])
    both = jax.vmap(lambda key, side: sample_side(Dice(key), ground, side, density))(keys, sides)
    boxes, columns, crowns = jax.tree.map(lambda field: field.reshape(-1, *field.shape[2:]), both)
    return join(boxes, sample_traffic(dice, ground)), columns, crowns


def sample_side(dice: Dice, ground: Ground, side: Scalar, density: Float[Array, "8"]) -> tuple[Solids, Solids, Solids]:
    """Everything on one side (-1 left, 1 right) of the road, as boxes, columns and crowns."""
    edge = ground.half_width + ground.near
    setback = edge + jnp.where(dice.chance(0.5), dice(0.0, 2.0), dice(2.0, 14.0))
    buildings, roofs = sample_buildings(dice, ground, side, setback, density[0])
    barriers = sample_barriers(dice, ground, side, edge + dice(0.0, 1.0), density[1])
    backdrops = sample_backdrops(dice, ground, side, setback + dice(10.0, 25.0), density[7])
    parked = sample_parked(dice, ground, side, density[2])
    trunks, crowns = sample_trees(dice, ground, side, density[3])
    bushes = sample_bushes(dice, ground, side, edge, density[4])
    poles, plates = sample_poles(dice, ground, side, density[5])
    bodies, heads = sample_people(dice, ground, side, density[6])
    return (
        join(buildings, roofs, barriers, backdrops, parked, plates),
        join(trunks, poles, bodies),
        join(crowns, bushes, heads),
    )


def sample_buildings(
    dice: Dice, ground: Ground, side: Scalar, setback: Scalar, density: Scalar
) -> tuple[Solids, Solids]:
    """A row of houses with gable or flat roofs; `setback` is the distance of their fronts from the centre line."""
    n = BUILDINGS
    frontage, gap = dice(8.0, 24.0, n), dice(0.0, 1.0, n) ** 3 * dice(0.0, 25.0)
    far = jnp.cumsum(frontage + gap) - dice(5.0, 20.0)
    z = far - frontage / 2
    depth, height = dice(6.0, 14.0, n), dice(3.0, 7.0) + dice(0.0, 8.0, n) * dice(0.2, 1.0)
    x = side * (setback + depth / 2 + dice(0.0, 1.5, n))
    exists = dice.chance(0.25 + 0.9 * density, n) & clear_of_crossing(ground, z, frontage / 2)
    walls = place(
        ground,
        exists,
        x,
        z,
        half=(depth / 2, height / 2, frontage / 2),
        color=mix(stone_color(dice, n), paint_color(dice, n), dice(0.0, 1.0, n) ** 3),
        accent=tinted(dice(0.02, 0.3, n), (0.9, 1.0, 1.1)),
        contrast=dice(0.02, 0.35, n),
        peak=dice(-2.0, 4.0, n),
        seed=dice.seed(n),
        pattern=PATTERNS.index("facade"),
        label=CLASSES.index("building"),
    )
    rise = dice(1.5, 4.5, n)
    gable = exists & dice.chance(0.6, n)
    overhang = dice(0.1, 0.6, n)
    roofs = place(
        ground,
        gable,
        x,
        z,
        bottom=height,
        half=(frontage / 2 + overhang, rise / 2, depth / 2 + overhang),
        yaw=jnp.pi / 2,
        taper=(depth / 2) / rise,
        color=tinted(dice(0.15, 0.6, n), (1.0, 0.75, 0.65)),
        contrast=dice(0.1, 0.5, n),
        peak=dice(0.0, 4.0, n),
        seed=dice.seed(n),
        pattern=PATTERNS.index("stripes"),
        label=CLASSES.index("building"),
    )
    return walls, roofs


def sample_barriers(dice: Dice, ground: Ground, side: Scalar, distance: Scalar, density: Scalar) -> Solids:
    """Walls, fences and hedges along the road."""
    n = BARRIERS
    length, gap = dice(6.0, 24.0, n), dice(0.5, 8.0, n)
    z = jnp.cumsum(length + gap) - dice(4.0, 16.0) - length / 2
    hedge = dice.chance(0.6, n)
    height = jnp.where(hedge, dice(0.8, 3.5, n), dice(0.6, 2.0, n))
    thickness = jnp.where(hedge, dice(0.6, 2.0, n), dice(0.1, 0.3, n))
    return place(
        ground,
        dice.chance(density**1.5, n) & clear_of_crossing(ground, z, length / 2),
        side * (distance + thickness / 2 + dice(0.0, 0.5, n)),
        z,
        half=(thickness / 2, height / 2, length / 2),
        color=jnp.where(hedge[:, None], foliage_color(dice, n), stone_color(dice, n)),
        contrast=jnp.where(hedge, dice(0.5, 1.0, n), dice(0.1, 0.5, n)),
        peak=dice(0.0, 4.0, n),
        seed=dice.seed(n),
        pattern=jnp.where(hedge, PATTERNS.index("foliage"), PATTERNS.index("stripes")),
        label=jnp.where(hedge, CLASSES.index("vegetation"), CLASSES.index("wall")),
    )


def sample_backdrops(dice: Dice, ground: Ground, side: Scalar, distance: Scalar, density: Scalar) -> Solids:
    """What closes the view far from the road: woods or rows of buildings, of which one may stand across the road."""
    n = BACKDROPS
    wood = dice.chance(0.7, n)
    across = (jnp.arange(n) == 0) & dice.chance(0.4)
    length = jnp.where(across, 20.0, dice(20.0, 45.0, n))
    z = jnp.where(across, dice(60.0, 95.0, n), jnp.cumsum(length) - length / 2 - 10.0)
    x = jnp.where(across, side * length / 2 + dice(-5.0, 5.0, n), side * (distance + dice(0.0, 15.0, n)))
    height = jnp.where(wood, dice(4.0, 12.0, n), dice(5.0, 14.0, n))
    return place(
        ground,
        dice.chance(0.3 + 0.7 * density, n),
        x,
        z,
        half=(jnp.full(n, 4.0), height / 2, length / 2),
        yaw=jnp.where(across, jnp.pi / 2, 0.0) + 0.1 * dice.normal(n),
        taper=jnp.where(wood, dice(0.0, 0.6, n), 0.0),
        color=jnp.where(wood[:, None], 0.7 * foliage_color(dice, n), stone_color(dice, n)),
        accent=tinted(dice(0.02, 0.3, n), (0.9, 1.0, 1.1)),
        contrast=jnp.where(wood, dice(0.5, 1.0, n), dice(0.05, 0.3, n)),
        peak=dice(-0.5, 3.0, n),
        seed=dice.seed(n),
        pattern=jnp.where(wood, PATTERNS.index("foliage"), PATTERNS.index("facade")),
        label=jnp.where(wood, CLASSES.index("vegetation"), CLASSES.index("building")),
    )


def sample_trees(dice: Dice, ground: Ground, side: Scalar, density: Scalar) -> tuple[Solids, Solids]:
    """Trees: trunks, and crowns of three ellipsoids or, for conifers, one."""
    n = TREES
    beside = dice.chance(0.5)
    x = side * (
        ground.half_width + jnp.where(beside, dice(0.7, 2.0), dice(3.0, 14.0)) + dice(0.0, 1.0, n) * dice(0.0, 6.0)
    )
    z = jnp.cumsum(dice(4.0, 16.0, n)) + dice(-6.0, 4.0)
    exists = dice.chance(1.1 * density, n) & clear_of_crossing(ground, z, jnp.full(n, 0.5))
    conifer = dice.chance(0.25, n)
    radius = jnp.where(conifer, dice(1.0, 2.2, n), dice(1.2, 4.0, n))
    tall = jnp.where(conifer, dice(2.0, 5.5, n), dice(1.0, 3.2, n))
    stem = jnp.where(conifer, dice(0.3, 1.2, n), dice(1.6, 3.5, n))
    trunk = place(
        ground,
        exists,
        x,
        z,
        half=(*[dice(0.06, 0.28, n)] * 2, None),
        height=stem + 0.5 * tall,
        color=tinted(dice(0.05, 0.3, n), (1.0, 0.85, 0.7)),
        contrast=dice(0.3, 0.9, n),
        peak=dice(1.0, 4.0, n),
        seed=dice.seed(n),
        pattern=PATTERNS.index("plain"),
        label=CLASSES.index("vegetation"),
    )
    looks = dict(
        color=foliage_color(dice, n) * dice(0.5, 1.0, n)[:, None],
        contrast=dice(0.5, 1.2, n),
        peak=dice(0.0, 3.0, n),
        leafage=dice(0.85, 1.4, n),
        pattern=PATTERNS.index("foliage"),
        label=CLASSES.index("vegetation"),
    )
    parts = [place(ground, exists, x, z, bottom=stem, half=(radius, tall, radius), seed=dice.seed(n), **looks)]
    for _ in range(2):
        wide, high = radius * dice(0.5, 0.85, n), tall * dice(0.5, 0.9, n)
        parts.append(
            place(
                ground,
                exists & ~conifer,
                x + radius * dice(-0.9, 0.9, n),
                z + radius * dice(-0.9, 0.9, n),
                bottom=stem + tall * dice(-0.2, 1.2, n),
                half=(wide, high, wide),
                seed=dice.seed(n),
                **looks,
            )
        )
    return trunk, join(*parts)


def sample_bushes(dice: Dice, ground: Ground, side: Scalar, edge: Scalar, density: Scalar) -> Solids:
    n = BUSHES
    radius = dice(0.4, 2.0, n) * dice(0.6, 1.6)
    return place(
        ground,
        dice.chance(density, n),
        side * (edge + radius + dice(0.0, 6.0, n)),
        jnp.cumsum(dice(2.0, 14.0, n)),
        bottom=-0.3 * radius,
        half=(radius, radius * dice(0.6, 1.3, n), radius),
        color=foliage_color(dice, n),
        contrast=dice(0.5, 1.2, n),
        peak=dice(0.0, 3.5, n),
        seed=dice.seed(n),
        pattern=PATTERNS.index("foliage"),
        label=CLASSES.index("vegetation"),
    )


def sample_poles(dice: Dice, ground: Ground, side: Scalar, density: Scalar) -> tuple[Solids, Solids]:
    """Lamp posts and signposts with their plates."""
    n = POLES
    x, z = side * (ground.half_width + dice(0.4, 1.6, n)), jnp.cumsum(dice(6.0, 28.0, n))
    exists, sign = dice.chance(density, n), dice.chance(0.5, n)
    height = jnp.where(sign, dice(2.0, 3.6, n), dice(4.0, 9.0, n))
    post = place(
        ground,
        exists,
        x,
        z,
        half=(*[jnp.where(sign, 0.04, dice(0.05, 0.12, n))] * 2, None),
        height=height,
        color=stone_color(dice, n) * 0.8,
        contrast=dice(0.0, 0.3, n),
        peak=dice(0.0, 3.0, n),
        seed=dice.seed(n),
        pattern=PATTERNS.index("plain"),
        label=CLASSES.index("pole"),
    )
    size = dice(0.25, 0.5, n)
    plate = place(
        ground,
        exists & sign,
        x,
        z - 0.08,
        bottom=height - 2 * size,
        half=(size * dice(0.6, 1.2, n), size, jnp.full(n, 0.02)),
        color=paint_color(dice, n),
        accent=stone_color(dice, n) * 1.4,
        contrast=dice(0.0, 0.1, n),
        peak=dice(0.0, 3.0, n),
        seed=dice.seed(n),
        pattern=PATTERNS.index("plate"),
        label=CLASSES.index("sign"),
    )
    return post, plate
