"""The renderer against closed forms: scenes of one known object on a flat road."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.world.ground import NOWHERE
from robustdepth.world.raycast import FAR, STRIPS, View
from robustdepth.world.raycast import rays as rays_of_strips
from robustdepth.world.render import join_strips, render_views
from robustdepth.world.scene import CLASSES, rotation
from tests.world.conftest import KINDS

SIZE = (64, 208)
FOCAL, CENTER = np.array([120.0, 121.0]), np.array([103.2, 30.1])
HEIGHT, BASELINE = 1.6, 0.5
IDENTITY = np.eye(3)

PITCH, ROLL, YAW = -0.05, 0.02, 0.04


def with_solid(world, kind, center, half, velocity=(0.0, 0.0, 0.0), leafage=1.5, bars=0.0):
    """The world with one upright solid of `kind`, without gaps unless `leafage` or `bars` say so."""
    solids = getattr(world, kind)
    fields = {"center": center, "half": half, "velocity": velocity, "cos": 1.0, "sin": 0.0, "taper": 0.0}
    fields |= {"leafage": leafage, "bars": bars, "label": CLASSES.index("person")}
    changed = {name: getattr(solids, name).at[0].set(jnp.asarray(value)) for name, value in fields.items()}
    return world.replace(**{kind: solids.replace(**changed)})


def look(world, *views):
    """Images, depth, labels and moving masks of one world for views given as (position, rotation, time)."""
    stacked = View(
        position=jnp.array([[position for position, _, _ in views]], jnp.float32),
        rotation=jnp.array([[turn for _, turn, _ in views]], jnp.float32),
        time=jnp.array([[time for _, _, time in views]], jnp.float32),
        focal=jnp.tile(jnp.asarray(FOCAL, jnp.float32), (1, len(views), 1)),
        center=jnp.tile(jnp.asarray(CENTER, jnp.float32), (1, len(views), 1)),
    )
    worlds = jax.tree.map(lambda field: field[None], world)
    return [np.asarray(field)[0] for field in render_views(worlds, stacked, SIZE)]


def rays(turn=IDENTITY):
    """World directions of all pixels in float64, [height, width, 3]; their parameter is depth."""
    y, x = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]), indexing="ij")
    local = np.stack([(x - CENTER[0]) / FOCAL[0], (y - CENTER[1]) / FOCAL[1], np.ones(SIZE)], axis=-1)
    return local @ np.asarray(turn, np.float64).T


ORIGIN = (0.0, -HEIGHT, 0.0)
AHEAD = (ORIGIN, IDENTITY, 0.0)
RIGHT = ((BASELINE, -HEIGHT, 0.0), IDENTITY, 0.0)


def test_ground_depth_is_the_closed_form(empty_world):
    turn = rotation(jnp.float32(YAW), jnp.float32(PITCH), jnp.float32(ROLL))
    _, depth, labels, _ = look(empty_world, (ORIGIN, turn, 0.0), RIGHT)
    down = rays(turn)[..., 1]
    expected = np.where(down > 0, HEIGHT / np.where(down > 0, down, 1.0), np.inf)
    ground = expected < 0.99 * FAR
    assert ground.mean() > 0.3
    np.testing.assert_allclose(depth[0][ground], expected[ground], rtol=1e-4)
    beyond = expected > 1.01 * FAR
    assert (depth[0][beyond] == FAR).all()
    assert (labels[0][beyond] == CLASSES.index("sky")).all()
    assert np.isin(labels[0][ground], [CLASSES.index(name) for name in ("road", "sidewalk", "terrain")]).all()


@pytest.mark.parametrize("crest", [0.004, -0.004])
def test_a_hilly_roads_depth_is_the_first_root(empty_world, crest):
    ground = empty_world.ground.replace(crest=jnp.float32(crest))
    turn = np.asarray(rotation(jnp.float32(YAW), jnp.float32(PITCH), jnp.float32(ROLL)))
    _, depth, labels, _ = look(empty_world.replace(ground=ground), (ORIGIN, turn, 0.0), RIGHT)
    step = 0.02
    t = np.arange(step, 1.2 * FAR, step)
    for y, x in [(y, x) for y in range(0, SIZE[0], 4) for x in range(0, SIZE[1], 23)]:
        ray = rays(turn)[y, x]
        above = 0.5 * crest * (ray[2] * t) ** 2 - (ray[1] * t - HEIGHT)  # height of the ray's points above the road
        below = np.flatnonzero(above < 0)
        first = t[below[0]] if below.size else np.inf
        if first < 0.98 * FAR:
            assert first - step - 1e-3 * first <= depth[0, y, x] <= first + 1e-3 * first
        elif first > 1.02 * FAR:
            assert labels[0, y, x] == CLASSES.index("sky")
    highest = np.nonzero((depth[0] < FAR).any(axis=1))[0][0]
    flat = np.nonzero((look(empty_world, (ORIGIN, turn, 0.0), RIGHT)[1][0] < FAR).any(axis=1))[0][0]
    assert highest > flat if crest > 0 else highest < flat


@pytest.mark.parametrize("kind", KINDS)
def test_a_solid_has_the_closed_forms_depth(empty_world, kind):
    center, half = np.array([0.3, -1.2, 9.0]), np.array([1.1, 1.2, 1.1])
    world = with_solid(empty_world, kind, center, half)
    _, depth, labels, _ = look(world, AHEAD, RIGHT)
    closed_form = {"boxes": box_depth, "screens": box_depth, "columns": column_depth, "crowns": crown_depth}[kind]
    expected = closed_form(center - ORIGIN, half)
    mine = labels[0] == CLASSES.index("person")
    # At the outline rounding decides whether a ray hits.
    assert (mine != np.isfinite(expected)).mean() < 1e-3
    both = mine & np.isfinite(expected)
    assert both.sum() > 300
    # Depth carries the name of what was hit in its lowest bits: exact to 2**-17.
    np.testing.assert_allclose(depth[0][both], expected[both], rtol=1e-4)


def box_depth(center, half):
    """Front face only: the camera looks straight at it and stands within its width and height."""
    depth = np.full(SIZE, center[2] - half[2])
    point = rays() * depth[..., None] - center
    inside = (np.abs(point[..., 0]) <= half[0]) & (np.abs(point[..., 1]) <= half[1])
    return np.where(inside, depth, np.inf)


def column_depth(center, half):
    ray = rays()
    depth = first_root(ray[..., [0, 2]], center[[0, 2]], half[0])
    inside = np.abs(np.where(np.isfinite(depth), depth, 0.0) * ray[..., 1] - center[1]) <= half[1]
    return np.where(inside, depth, np.inf)


def crown_depth(center, half, last=False):
    return first_root(rays() / half, center / half, 1.0, last)


def first_root(ray, center, radius, last=False):
    """The smaller t with |t ray - center| = radius, or the larger one."""
    a, b, c = (ray * ray).sum(-1), (ray * center).sum(-1), (center * center).sum() - radius**2
    root = b * b - a * c
    return np.where(root > 0, (b - (-1 if last else 1) * np.sqrt(np.maximum(root, 0.0))) / a, np.inf)


def test_through_the_gaps_of_a_crown_one_sees_its_far_side(empty_world):
    center, half = np.array([0.3, -1.2, 9.0]), np.array([1.1, 1.2, 1.1])
    _, depth, labels, _ = look(with_solid(empty_world, "crowns", center, half, leafage=0.75), AHEAD, RIGHT)
    near, far = crown_depth(center - ORIGIN, half), crown_depth(center - ORIGIN, half, last=True)
    mine, inside = labels[0] == CLASSES.index("person"), np.isfinite(near)
    at_near, at_far = (np.abs(depth[0] / np.where(inside, end, 1.0) - 1) < 1e-4 for end in (near, far))
    assert (mine & ~inside).mean() < 1e-3
    assert (mine & inside & ~at_near & ~at_far).mean() < 1e-3
    # Half of the hull has leaves: of the near side one half is seen, of the far side a quarter, and the rest is open.
    for share, seen in ((0.5, mine & at_near), (0.25, mine & at_far), (0.25, ~mine)):
        assert (seen & inside).sum() / inside.sum() == pytest.approx(share, abs=0.12)


def test_a_fence_has_bars_at_its_depth_and_gaps_between_them(empty_world):
    center, half = np.array([3.0, -1.2, 9.0]), np.array([0.5, 0.8, 4.0])
    _, depth, labels, _ = look(with_solid(empty_world, "screens", center, half, bars=0.5), AHEAD, RIGHT)
    side = (center[0] - half[0]) / np.maximum(rays()[..., 0], 1e-6)  # of the flank that faces the road
    along, down = side * rays()[..., 2] - center[2], side * rays()[..., 1] - HEIGHT - center[1]
    flank = (rays()[..., 0] > 0) & (np.abs(along) < half[2] - 0.05) & (np.abs(down) < half[1] - 0.3)
    from_bar = np.abs(np.abs(along / 2 - np.round(along / 2)))  # bars stand every two metres, a quarter as wide
    bar, gap = flank & (from_bar < 0.11), flank & (from_bar > 0.13)
    assert min(bar.sum(), gap.sum()) > 30
    np.testing.assert_allclose(depth[0][bar], side[bar], rtol=1e-4)
    assert (labels[0][bar] == CLASSES.index("person")).all()
    assert (labels[0][gap] != CLASSES.index("person")).all()


def test_disparity_is_focal_times_baseline_over_depth(empty_world):
    world = with_solid(empty_world, "boxes", (0.0, -1.5, 8.0), (1.0, 1.5, 0.5))
    _, _, labels, _ = look(world, AHEAD, RIGHT)
    left, right = (np.nonzero(view == CLASSES.index("person"))[1].mean() for view in labels)
    assert FOCAL[0] * BASELINE / 7.5 == 8.0  # whole pixels, so that both masks are cut off alike
    assert left - right == pytest.approx(8.0, abs=0.02)


def test_a_moving_solid_is_masked_and_moves(empty_world):
    world = with_solid(empty_world, "boxes", (0.0, -1.5, 9.0), (1.0, 1.5, 1.0), velocity=(0.0, 0.0, 1.5))
    _, depth, labels, moving = look(world, AHEAD, (ORIGIN, IDENTITY, 1.0))
    for view, expected in ((0, 8.0), (1, 9.5)):
        mine = labels[view] == CLASSES.index("person")
        np.testing.assert_array_equal(moving[view], mine)
        front = mine & (np.abs(rays()[..., 0] * expected) < 0.9)
        np.testing.assert_allclose(depth[view][front], expected, rtol=1e-4)


def test_the_kerb_raises_the_ground_beside_the_road(empty_world):
    ground = empty_world.ground.replace(
        kerb=jnp.float32(0.2), half_width=jnp.float32(3.0), crossing=jnp.array([-NOWHERE, 1.0])
    )
    _, depth, labels, _ = look(empty_world.replace(ground=ground), AHEAD, RIGHT)
    point = rays() * depth[0][..., None]
    near = (depth[0] < 0.9 * FAR) & (rays()[..., 1] > 0)
    road = near & (labels[0] == CLASSES.index("road"))
    beside = near & (np.abs(point[..., 0]) > 3.02)
    np.testing.assert_allclose(point[road][:, 1], HEIGHT, rtol=1e-4)
    np.testing.assert_allclose(point[beside][:, 1], HEIGHT - 0.2, rtol=1e-4)
    face = near & ~road & (np.abs(point[..., 0]) < 2.999)
    assert not face.any()
    assert (np.abs(point[road][:, 0]) <= 3.001).all()


def test_shadows_darken_the_ground_away_from_the_sun(empty_world):
    world = with_solid(empty_world, "boxes", (2.0, -1.0, 8.0), (0.5, 1.0, 0.5))
    sun = jnp.array([0.8, -0.6, 0.0])  # from the right: the shadow falls to the left, 2.67 m long
    light = world.light.replace(
        sun=sun, sun_color=jnp.array([0.6, 0.6, 0.6]), ambient=jnp.array([0.2, 0.2, 0.2]), haze=jnp.float32(0)
    )
    ground = world.ground.replace(
        half_width=jnp.float32(50.0), dash=jnp.array([0.0, 5.0, 0.5]), contrast=jnp.zeros(4), edge=jnp.float32(0)
    )
    ground = ground.replace(cracks=jnp.float32(0), zebra=jnp.float32(0))
    image, _, labels, _ = look(world.replace(light=light, ground=ground), AHEAD, RIGHT)
    point = rays() * (HEIGHT / np.maximum(rays()[..., 1:2], 1e-3))
    road = labels[0] == CLASSES.index("road")
    in_row = road & (np.abs(point[..., 2] - 8.0) < 0.3)
    shaded = in_row & (point[..., 0] > -0.8) & (point[..., 0] < 0.8)
    sunny = in_row & (point[..., 0] > -6.0) & (point[..., 0] < -2.0)
    assert shaded.sum() > 20
    assert image[0][shaded].mean() < 0.75 * image[0][sunny].mean()
    assert image[0][shaded].max() < image[0][sunny].min()


def test_strips_of_an_odd_width_join_to_the_whole_image():
    size = (5, 50)
    views = View(
        position=jnp.zeros((1, 1, 3)),
        rotation=jnp.eye(3)[None, None],
        time=jnp.zeros((1, 1)),
        focal=jnp.ones((1, 1, 2)),
        center=jnp.zeros((1, 1, 2)),
    )
    x, y, z = (join_strips(plane, size) for plane in rays_of_strips(views, jnp.arange(STRIPS), size=size))
    expected_y, expected_x = np.meshgrid(np.arange(5.0), np.arange(50.0), indexing="ij")
    np.testing.assert_array_equal(x[0, 0], expected_x)
    np.testing.assert_array_equal(y[0, 0], expected_y)
    np.testing.assert_array_equal(z[0, 0], np.ones(size))
