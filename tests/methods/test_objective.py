"""The whole objective: what each method may move, and that what is switched off leaves no trace."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustdepth.methods.forward import apply
from robustdepth.methods.objective import make_loss_fn
from robustdepth.methods.semantics import graph_for, init_graph
from robustdepth.models.depth_net import DepthOutput
from tests.methods.test_weather import ToyPose
from tests.tiny import random_batch, tiny_config

TEXTURE = {"texture_photometric": 1.0, "texture_consistency": 0.1}
SEMANTICS = {"semantics_edge": 0.05, "semantics_node": 0.05, "semantics_anchor": 0.025}
CHANNELS = 5


class TwoPartNet(nn.Module):
    """Disparity from brightness and, apart from it, a feature map: so that tests see which part a loss moves."""

    @nn.compact
    def __call__(self, image, train):
        slope = self.param("slope", nn.initializers.constant(-2.0), ())
        bias = self.param("bias", nn.initializers.constant(-2.0), ())
        disparity = nn.sigmoid(slope * image.mean(-1) + bias)
        batch, height, width = disparity.shape
        blocks = image.reshape(batch, height // 8, 8, width // 8, 8, 3).mean((2, 4))
        decoded = nn.Dense(4, name="features")(blocks)
        return DepthOutput((disparity,), {}, {8: decoded})


def evaluate(changes: dict, graph_mode: str = "learned", views: tuple[str, ...] = ("clean", "perturbed")):
    """Loss, Aux and gradients of a toy experiment with temporal and stereo views."""
    return evaluated(tuple(changes.items()), graph_mode, views)


@functools.cache  # tests ask for the same one, and compiling takes seconds
def evaluated(changes: tuple[tuple[str, float], ...], graph_mode: str, views: tuple[str, ...]):
    config = tiny_config(("next", "stereo"))
    config.batch_size = 2
    config.data.jitter = (0.0, 0.0, 0.0, 0.0)
    config.semantics.update({"graph": graph_mode, "stride": 8, "views": views, "width": 8, "heads": 2})
    config.loss.update({"photometric": 0.0, "smoothness": 0.0} | dict(changes))
    depth_net, pose_net, graph = TwoPartNet(), ToyPose(), graph_for(config.semantics, CHANNELS)
    image = jnp.zeros((1, 32, 64, 3))
    pose = pose_net.init(jax.random.key(0), image, image, train=False)
    params = {
        "depth": depth_net.init(jax.random.key(0), image, train=False)["params"],
        "pose": pose["params"],
        "semantics": init_graph(graph, (1, 4, 8, 4), (1, 2, 4, CHANNELS), jax.random.key(1)),
    }
    batch = random_batch(config)
    expert = np.random.default_rng(1).standard_normal((2, 2, 4, CHANNELS)).astype(np.float32)
    batch = dataclasses.replace(batch, expert=expert)
    loss_fn = make_loss_fn(config, depth_net, pose_net, {"semantics": graph})
    arguments = params, {"depth": {}, "pose": pose["batch_stats"]}, batch, jax.random.key(3), jnp.int32(0)
    (loss, aux), gradients = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(*arguments)
    return loss, aux, gradients


def moved(tree) -> set[str]:
    """Paths whose gradient is not exactly zero."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path) for path, leaf in leaves if float(jnp.max(jnp.abs(leaf))) > 0}


def test_texture_losses_move_the_depth_network_and_no_pose():
    for changes in ({"texture_photometric": 1.0}, {"texture_consistency": 0.1}):
        _, aux, gradients = evaluate(changes)
        assert set(aux.losses) == set(changes)
        assert moved(gradients) == {"depth/slope", "depth/bias"}
        assert "texture" in aux.images


def test_the_clear_photometric_loss_moves_poses_and_a_texture_view_does_not_change_by_how_much():
    _, _, alone = evaluate({"photometric": 1.0})
    _, _, beside = evaluate({"photometric": 1.0} | TEXTURE)
    assert "pose/motion" in moved(alone)
    np.testing.assert_allclose(beside["pose"]["motion"], alone["pose"]["motion"], rtol=1e-5)


def test_the_student_losses_move_features_and_their_projection_alone():
    for term in ("semantics_edge", "semantics_node"):
        _, aux, gradients = evaluate({term: 0.05})
        assert set(aux.losses) == {term}
        assert moved(gradients) == {
            "depth/features/kernel",
            "depth/features/bias",
            "semantics/w_student/kernel",
        }


def test_the_anchor_moves_the_graph_and_never_the_depth_network():
    _, _, gradients = evaluate({"semantics_anchor": 0.025})
    assert moved(gradients) == {
        "semantics/w_expert/kernel",
        "semantics/theta_query",
        "semantics/theta_key",
        "semantics/theta_value",
        "semantics/position/table",
        "semantics/w_reconstruct/kernel",
    }


def test_a_fixed_graph_moves_features_and_none_moves_their_projection_too():
    _, aux, gradients = evaluate(SEMANTICS, "fixed")
    assert set(aux.losses) == {"semantics_edge"}
    assert moved(gradients) == {"depth/features/kernel", "depth/features/bias"}
    _, aux, gradients = evaluate(SEMANTICS, "none")
    assert set(aux.losses) == {"semantics_node"}
    assert moved(gradients) == {"depth/features/kernel", "depth/features/bias", "semantics/kernel"}


def test_the_loss_is_the_weighted_sum_and_the_changed_view_learns_from_the_expert_too():
    loss, aux, _ = evaluate({"photometric": 1.0} | TEXTURE | SEMANTICS)
    weights = {"photometric": 1.0} | TEXTURE | SEMANTICS
    assert set(aux.losses) == set(weights)
    assert float(loss) == pytest.approx(sum(weights[n] * float(t.value) for n, t in aux.losses.items()), rel=1e-5)
    both, clean, changed = (
        float(evaluate(weights, views=views)[1].losses["semantics_edge"].value)
        for views in (("clean", "perturbed"), ("clean",), ("perturbed",))
    )
    assert both == pytest.approx((clean + changed) / 2, rel=1e-4)
    assert clean != pytest.approx(changed, rel=1e-4)


def test_what_is_off_leaves_the_other_terms_as_they_were():
    _, alone, _ = evaluate({"photometric": 1.0})
    _, beside, _ = evaluate({"photometric": 1.0} | TEXTURE | SEMANTICS)
    assert float(alone.losses["photometric"].value) == pytest.approx(float(beside.losses["photometric"].value))
    assert set(alone.images) == set(beside.images) - {"texture"}
    assert "graph_entropy" not in alone.watched


class TwoConvolutions(nn.Module):
    @nn.compact
    def __call__(self, image, train):
        x = nn.Conv(4, (3, 3), name="first")(image)
        return nn.Conv(2, (3, 3), name="second")(jnp.sin(x))


def test_what_backward_passes_compute_again_changes_no_number_and_what_they_keep():
    net, image = TwoConvolutions(), jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    params = {"net": net.init(jax.random.key(1), image, train=True)["params"]}

    def loss(params, remat):
        return jnp.sum(jnp.square(apply(net, "net", params, {"net": {}}, image, remat=remat)[0]))

    kept = {}
    plain = jax.grad(loss)(params, "none")
    for remat in ("none", "convolutions", "full"):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), jax.grad(loss)(params, remat), plain)
        program = str(jax.make_jaxpr(jax.grad(loss), static_argnums=1)(params, remat))
        kept[remat] = program.count("conv_general_dilated["), program.count(" sin ")
    assert kept["none"][0] == kept["convolutions"][0] < kept["full"][0]  # convolutions that run
    assert kept["none"][1] < kept["convolutions"][1] <= kept["full"][1]  # and what stands between them
