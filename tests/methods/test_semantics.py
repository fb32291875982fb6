"""Semantic distillation: its values against METHOD.md's equations in float64, and who gets a gradient from what."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from robustdepth.errors import UserError
from robustdepth.imaging.resize import resize_image
from robustdepth.methods import semantics
from robustdepth.methods.semantics import TEMPERATURE, drop_nodes, graph_for, init_graph
from robustdepth.runtime import sharding
from tests.tiny import tiny_config

DRAW = np.random.default_rng(7)
BATCH, GRID, STUDENT, EXPERT, WIDTH, HEADS = 8, (2, 3), 5, 6, 8, 2
NODES = GRID[0] * GRID[1]
CLEAN, PERTURBED = (jnp.asarray(DRAW.normal(size=(BATCH, *GRID, STUDENT)), jnp.float32) for _ in "ab")
TAUGHT = jnp.asarray(DRAW.normal(size=(BATCH, *GRID, EXPERT)), jnp.float32)
KEY = jax.random.key(4)
MODES = {
    "learned": ("semantics_edge", "semantics_node", "semantics_anchor"),
    "fixed": ("semantics_edge",),
    "none": ("semantics_node",),
}


def config_of(mode: str):
    config = tiny_config()
    config.semantics.update(graph=mode, width=WIDTH, heads=HEADS)
    return config


def params_of(mode: str):
    """Initial parameters, with a position bias as training would leave it."""
    graph = graph_for(config_of(mode).semantics, EXPERT)
    params = init_graph(graph, CLEAN.shape, TAUGHT.shape, jax.random.key(1))
    if mode == "learned":
        params["position"]["table"] = jnp.asarray(DRAW.normal(size=params["position"]["table"].shape), jnp.float32)
    return params


PARAMS = {mode: params_of(mode) for mode in MODES}


def settings_of(mode: str) -> semantics.Settings:
    config = config_of(mode)
    return semantics.Settings.of(config, graph_for(config.semantics, EXPERT))


@functools.cache
def compiled(mode: str, with_gradients: bool):
    """The terms of a mode as {name: number}, or the gradients of its losses."""
    settings = settings_of(mode)

    def values(params, students, expert):
        losses, watched, _ = semantics.terms(settings, params, students, expert, KEY)
        return {name: term.value for name, term in (losses if with_gradients else losses | watched).items()}

    return jax.jit(jax.jacrev(values, argnums=(0, 1, 2)) if with_gradients else values)


def terms(mode: str, students=(CLEAN, PERTURBED), expert=TAUGHT, params=None):
    """Losses and watched quantities of a mode, as numbers."""
    found = compiled(mode, False)(PARAMS[mode] if params is None else params, students, expert)
    return {name: float(value) for name, value in found.items()}


def gradients(mode: str, students=(CLEAN, PERTURBED), expert=TAUGHT):
    """Gradients of every loss of a mode, {loss: {argument: gradient}}."""
    found = compiled(mode, True)(PARAMS[mode], students, expert)
    return {
        name: {
            sharding.path_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        }
        for name, gradient in found.items()
    }


def vec64(features):
    return np.asarray(features, np.float64).reshape(-1, NODES, features.shape[-1])


def distance64(a, b):
    """1 - cos of each pair of vectors."""
    return 1 - (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


class Reference:
    """METHOD.md 3.1 to 3.5 for one sample at a time, in float64 NumPy."""

    def __init__(self, params):
        self.w = {name: np.asarray(params[f"w_{name}"]["kernel"], np.float64) for name in ("student", "expert")}
        self.w_r = np.asarray(params["w_reconstruct"]["kernel"], np.float64)
        self.q, self.k, self.v = (np.asarray(params[f"theta_{n}"], np.float64) for n in ("query", "key", "value"))
        self.table = np.asarray(params["position"]["table"], np.float64)

    def nodes(self, features, side):
        x = features @ self.w[side]
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    def attend(self, x, y):
        """log A [head, i, j] and Z [i, width]."""
        size = WIDTH // HEADS
        edges, received = [], []
        for head in range(HEADS):
            columns = slice(head * size, (head + 1) * size)
            logits = (x @ self.q[:, columns]) @ (y @ self.k[:, columns]).T / np.sqrt(size)
            for i, j in np.ndindex(NODES, NODES):
                (yi, xi), (yj, xj) = divmod(i, GRID[1]), divmod(j, GRID[1])
                logits[i, j] += self.table[head, yi - yj + GRID[0] - 1, xi - xj + GRID[1] - 1]
            edges.append(log_softmax(logits, axis=-1))
            received.append(softmax(logits, axis=-1) @ y @ self.v[:, columns])
        return np.stack(edges), np.concatenate(received, axis=-1)

    def terms(self, student, expert, dropped):
        edge, node, anchor, entropy = [], [], [], []
        for f_s, f_t, gone in zip(vec64(student), vec64(expert), dropped, strict=True):
            x_s, x_t = self.nodes(f_s, "student"), self.nodes(f_t, "expert")
            (a_t, z_t), (a_s, z_s), (_, z_st) = self.attend(x_t, x_t), self.attend(x_s, x_s), self.attend(x_s, x_t)
            edge.append((np.exp(a_t) * (a_t - a_s)).sum(-1).mean())
            node.append(distance64(z_s, z_t).mean() + 0.5 * distance64(z_st, z_t).mean())
            entropy.append(-(np.exp(a_t) * a_t).sum(-1).mean() / np.log(NODES))
            _, z = self.attend(x_t, np.where(gone[:, None], 0.0, x_t))
            anchor += list(distance64(z @ self.w_r, f_t)[gone])
        return [np.mean(values) for values in (edge, node, anchor, entropy)]


def test_the_learned_graph_equals_its_equations_in_float64():
    reference, dropped = Reference(PARAMS["learned"]), np.asarray(drop_nodes(KEY, (BATCH, NODES), 0.3))
    clean, perturbed = (reference.terms(student, TAUGHT, dropped) for student in (CLEAN, PERTURBED))
    expected = dict(zip((*MODES["learned"], "graph_entropy"), np.mean([clean, perturbed], axis=0), strict=True))
    assert clean[0] != pytest.approx(perturbed[0], rel=0.01)
    assert clean[2:] == perturbed[2:]  # the expert's part knows no student
    assert terms("learned") == pytest.approx(expected, rel=2e-5)


def test_the_fixed_graph_compares_cosine_affinities():
    def edges(features):
        unit = vec64(features) / np.linalg.norm(vec64(features), axis=-1, keepdims=True)
        return log_softmax(unit @ unit.transpose(0, 2, 1) / TEMPERATURE, axis=-1)

    taught = edges(TAUGHT)
    divergences = [(np.exp(taught) * (taught - edges(student))).sum(-1).mean() for student in (CLEAN, PERTURBED)]
    entropy = -(np.exp(taught) * taught).sum(-1).mean() / np.log(NODES)
    expected = {"semantics_edge": np.mean(divergences), "graph_entropy": entropy}
    assert terms("fixed") == pytest.approx(expected, rel=2e-5)


def test_without_a_graph_projected_features_are_compared():
    kernel = np.asarray(PARAMS["none"]["kernel"], np.float64)
    distances = [distance64(vec64(student) @ kernel, vec64(TAUGHT)).mean() for student in (CLEAN, PERTURBED)]
    assert terms("none") == pytest.approx({"semantics_node": np.mean(distances)}, rel=2e-5)


STUDENTS = {"1/0", "1/1"}
MOVED = {
    ("learned", "semantics_edge"): {"0/w_student/kernel"} | STUDENTS,
    ("learned", "semantics_node"): {"0/w_student/kernel"} | STUDENTS,
    ("learned", "semantics_anchor"): {
        "0/w_expert/kernel",
        "0/w_reconstruct/kernel",
        "0/theta_query",
        "0/theta_key",
        "0/theta_value",
        "0/position/table",
    },
    ("fixed", "semantics_edge"): STUDENTS,
    ("none", "semantics_node"): {"0/kernel"} | STUDENTS,
}


@pytest.mark.parametrize("mode", MODES)
def test_every_loss_moves_what_it_should_and_nothing_else(mode):
    found = gradients(mode)
    assert found.keys() == set(MODES[mode])
    for loss, by_argument in found.items():
        assert "2" in by_argument  # the expert's features, which must never move
        moved = {name for name, gradient in by_argument.items() if np.any(gradient != 0)}
        assert moved == MOVED[mode, loss]
        assert all(np.linalg.norm(by_argument[name]) > 1e-4 for name in moved)
        assert all(np.isfinite(gradient).all() for gradient in by_argument.values())


def test_a_student_that_equals_the_expert_has_nothing_to_learn():
    params = PARAMS["learned"] | {"w_student": PARAMS["learned"]["w_expert"]}
    same = terms("learned", (TAUGHT,), TAUGHT, params)
    assert same["semantics_edge"] == pytest.approx(0.0, abs=1e-6)
    assert same["semantics_node"] == pytest.approx(0.0, abs=1e-6)
    assert same["semantics_anchor"] > 0.01
    assert terms("fixed", (TAUGHT,), TAUGHT)["semantics_edge"] == pytest.approx(0.0, abs=1e-6)
    assert terms("none", (TAUGHT,), TAUGHT, {"kernel": jnp.eye(EXPERT)})["semantics_node"] < 1e-6


@pytest.mark.parametrize("mode", MODES)
def test_black_images_give_finite_values_and_gradients(mode):
    black = (0.0 * CLEAN, PERTURBED)
    for students, expert in ((black, TAUGHT), (black, 0.0 * TAUGHT), ((CLEAN, PERTURBED), 0.0 * TAUGHT)):
        assert np.isfinite(list(terms(mode, students, expert).values())).all()
        for by_argument in gradients(mode, students, expert).values():
            for gradient in by_argument.values():
                assert np.isfinite(gradient).all()
                assert np.abs(gradient).max(initial=0.0) < 1e3


@pytest.mark.parametrize("mode", MODES)
def test_samples_do_not_meet(mode):
    together, alone = terms(mode), [terms(mode, (CLEAN[i : i + 1],), TAUGHT[i : i + 1]) for i in range(2)]
    two = terms(mode, (CLEAN[:2],), TAUGHT[:2])
    assert together.keys() == two.keys()
    for name in two.keys() - {"semantics_anchor"}:  # its nodes are drawn anew for every batch shape
        assert two[name] == pytest.approx(np.mean([sample[name] for sample in alone]), rel=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_eight_devices_equal_one(mode):
    mesh = sharding.make_mesh("data")
    assert mesh.devices.size == 8
    students, expert = jax.device_put(((CLEAN, PERTURBED), TAUGHT), sharding.batch_sharding(mesh))
    on_eight = gradients(mode, students, expert)
    for loss, by_argument in gradients(mode).items():
        for name, gradient in by_argument.items():
            np.testing.assert_allclose(on_eight[loss][name], gradient, rtol=1e-4, atol=1e-6)
    assert terms(mode, students, expert) == pytest.approx(terms(mode), rel=1e-5)


def test_the_expert_is_resized_to_the_students_grid():
    fine = jnp.asarray(DRAW.normal(size=(BATCH, 5, 7, EXPERT)), jnp.float32)
    assert terms("none", expert=fine) == pytest.approx(terms("none", expert=resize_image(fine, GRID)), rel=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_half_precision_features_give_losses_in_single(mode):
    student, expert = (features.astype(jnp.bfloat16) for features in (CLEAN, TAUGHT))
    found = jax.eval_shape(compiled(mode, False), PARAMS[mode], (student,), expert)
    assert {value.dtype for value in found.values()} == {jnp.dtype("float32")}


def test_dropped_nodes_are_that_share_and_counted():
    drawn = np.asarray(drop_nodes(jax.random.key(0), (64, 480), 0.3))
    assert drawn.mean() == pytest.approx(0.3, abs=0.01)
    settings = settings_of("learned")
    losses = jax.jit(lambda p: semantics.terms(settings, p, (CLEAN,), TAUGHT, KEY))(PARAMS["learned"]).losses
    assert int(losses["semantics_anchor"].count) == np.sum(drop_nodes(KEY, (BATCH, NODES), 0.3))
    assert int(losses["semantics_edge"].count) == BATCH


def test_parameters_are_those_of_the_mode():
    assert PARAMS["fixed"] == {}
    assert graph_for(config_of("fixed").semantics, EXPERT) is None
    assert PARAMS["none"]["kernel"].shape == (STUDENT, EXPERT)
    shapes = jax.tree.map(jnp.shape, PARAMS["learned"])
    assert shapes["position"]["table"] == (HEADS, 3, 5)
    assert shapes["w_reconstruct"]["kernel"] == (WIDTH, EXPERT)


def test_what_cannot_work_is_refused_with_one_sentence():
    with pytest.raises(UserError, match="did you mean learned"):
        graph_for(config_of("learnt").semantics, EXPERT)
    config = config_of("learned")
    config.semantics.heads = 3
    with pytest.raises(UserError, match=r"width=8 does not divide into config\.semantics\.heads=3"):
        graph_for(config.semantics, EXPERT)
    with pytest.raises(UserError, match="made for 2x3 nodes and got 3x2"):
        terms("learned", (CLEAN.reshape(BATCH, 3, 2, STUDENT),))
