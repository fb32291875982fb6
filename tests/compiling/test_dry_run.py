"""The dry run: names of devices, what a program sends, the shapes of a batch, and the needs of a real step."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from configs import base, kitti_structure_resnet18, world_expert, world_quickstart, world_selective
from robustdepth.compiling import gpus, topology
from robustdepth.compiling.collectives import Collective, Kind, by_kind, collectives, shape_bytes
from robustdepth.compiling.dry_run import describe, find_needs
from robustdepth.compiling.topology import device_memory, make_topology_mesh
from robustdepth.data.stream import Stream, batch_shapes
from robustdepth.errors import UserError
from robustdepth.runtime import sharding
from robustdepth.training.setup import build
from tests.recordings import write_kitti_raw
from tests.tiny import shrink, tiny_config

PROGRAM = """HloModule made_up

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%inner (p: f32[8]) -> f32[8] {
  ROOT %all-reduce.7 = f32[8]{0} all-reduce(%p), replica_groups={{0,1}}, to_apply=%add
}

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %fused = f32[8]{0} fusion(%x), kind=kCustom, calls=%inner, metadata={op_name="all-gather(x)"}
}

%condition (p: (s32[], f32[8])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

%endless (p: f32[4]) -> f32[4] {
  ROOT %permuted = f32[4]{0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}
}

%never_run (p: f32[4]) -> f32[4] {
  ROOT %gone = f32[4]{0} all-reduce(%p), to_apply=%add
}

ENTRY %main (w: bf16[2,16], b: f32[3]) -> f32[3] {
  %all-reduce.1 = (f32[3]{0:T(128)}, /*index=1*/f32[64,2]{1,0:T(8,128)S(1)}) all-reduce(%b, %g), to_apply=%add
  %all-gather-start.2 = (bf16[2,16]{1,0}, bf16[4,16]{1,0}) all-gather-start(%w), dimensions={0}
  %all-gather-done.2 = bf16[4,16]{1,0} all-gather-done(%all-gather-start.2)
  %all-reduce-start.3 = f32[5]{0} all-reduce-start(%c), to_apply=%add
  %all-reduce-done.3 = f32[5]{0} all-reduce-done(%all-reduce-start.3)
  %scattered = f32[1,7]{1,0} reduce-scatter(%d), dimensions={0}, to_apply=%add
  %loop = (s32[], f32[8]{0}) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"6"}}
  %open = f32[4]{0} while(%u), condition=%condition, body=%endless
  ROOT %out = f32[3]{0} add(%b, %all-gather), metadata={op_name="jit(f)/all-reduce(y)"}
}
"""


def test_collectives_of_a_program_whose_text_is_known():
    found = {(one.kind, one.bytes, one.times, one.counted) for one in collectives(PROGRAM)}
    assert found == {
        ("all-reduce", 12 + 512, 1, True),
        ("all-gather", 2 * 4 * 16, 1, True),
        ("all-reduce", 20, 1, True),
        ("reduce-scatter", 28, 1, True),
        ("all-reduce", 32, 6, True),  # in a fusion in a loop of six rounds
        ("collective-permute", 16, 1, False),  # in a loop of unknown rounds
    }
    assert len(collectives(PROGRAM)) == 6


def test_sums_of_collectives_by_kind():
    found = [
        Collective("all-reduce", 8, ""),
        Collective("all-reduce", 4, "", 5),
        Collective("all-to-all", 2, "", 1, False),
    ]
    assert by_kind(found) == {"all-reduce": Kind(6, 28, True), "all-to-all": Kind(1, 2, False)}
    assert by_kind([]) == {}


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[]", 4),
        ("pred[3,5]{1,0}", 15),
        ("bf16[2,3]", 12),
        ("(s32[2], u8[3])", 11),
        ("f8e4m3fn[10]", 10),
        ("c64[2]", 16),
    ],
)
def test_bytes_of_a_shape(shape, size):
    assert shape_bytes(shape) == size


def test_collectives_of_a_compiled_program():
    mesh = sharding.make_mesh("data")
    split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

    def mean_of_rounds(weights, x):
        def body(carry, _):
            return carry + jnp.mean(jnp.sin(x * carry[None]), axis=0), None

        return jax.lax.scan(body, weights, None, length=5)[0]

    shapes = jax.ShapeDtypeStruct((16,), jnp.float32), jax.ShapeDtypeStruct((24, 16), jnp.float32)
    jitted = jax.jit(mean_of_rounds, in_shardings=(whole, split), out_shardings=whole)
    found = by_kind(collectives(jitted.lower(*shapes).compile().as_text()))
    assert found == {"all-reduce": Kind(5, 5 * 16 * 4, True)}


def stereo_truth():
    config = tiny_config()
    config.task = "stereo"
    config.loss.disparity = 1.0
    return config


def with_sgm():
    config = shrink(world_selective.get_config())
    config.selective.proxy = "sgm"
    return config


@pytest.mark.parametrize(
    "make",
    [
        tiny_config,
        lambda: shrink(world_expert.get_config()),
        stereo_truth,
        with_sgm,
    ],
    ids=["views", "labels", "truth", "sgm"],
)
def test_shapes_are_those_of_rendered_batches(make):
    config = make()
    check_shapes(config)


def test_shapes_are_those_of_recorded_batches(tmp_path):
    write_kitti_raw(tmp_path)
    config = shrink(base.get_config())
    config.data.update(dict(name="kitti_raw", root=str(tmp_path), views=("previous", "stereo")))
    check_shapes(config)


def check_shapes(config):
    stream = Stream(config)
    batch = next(stream)
    stream.close()
    found = jax.tree.map(lambda leaf: (leaf.shape, np.dtype(leaf.dtype)), batch)
    assert found == jax.tree.map(lambda leaf: (leaf.shape, np.dtype(leaf.dtype)), batch_shapes(config))


@pytest.mark.parametrize("name", ["v5e-8", "h300:8", "cpu:0", "cpu", "gpu", ""])
def test_unknown_topologies_are_refused(name):
    with pytest.raises(UserError, match=r'is no topology: give "here" \(this machine\'s devices\), "cpu:N", GPUs as'):
        make_topology_mesh(name, "data")


def test_the_tpu_compiler_may_be_missing(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--dry_run=v5e:2x4 needs the TPU compiler, but no TPU: pip install libtpu"):
        make_topology_mesh("v5e:2x4", "data")


def test_the_gpu_compiler_may_be_missing(monkeypatch):
    monkeypatch.setattr(gpus.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r'--dry_run=h200:8 needs the GPU compiler, but no GPU: pip install "robustdepth'
    ):
        make_topology_mesh("h200:8", "data")


@pytest.mark.skipif(importlib.util.find_spec("jax_cuda12_plugin") is None, reason="the GPU compiler is not installed")
def test_a_program_is_compiled_for_gpus_that_are_not_there():
    mesh = make_topology_mesh("h200:16", "data")  # two hosts
    assert mesh.devices.size == 16
    assert device_memory(mesh.devices.flat[0]) == 151_397_597_184
    split = NamedSharding(mesh, P("data"))
    total = jax.jit(lambda x: jnp.sum(x * x), in_shardings=split, out_shardings=NamedSharding(mesh, P()))
    text = total.lower(jax.ShapeDtypeStruct((64, 128), jnp.float32)).compile().as_text()
    assert [found.kind for found in collectives(text)] == ["all-reduce"]


def test_facts_of_a_gpu_are_those_that_its_compiler_is_told():
    text = gpus.target_config(gpus.GPUS["h200"])
    for fact in ("core_count: 132", "memory_bandwidth: 4800000000000", "l2_cache_size: 52428800", "major: 9 minor: 0"):
        assert fact in text  # as XLA's own description of that GPU has them


def test_meshes_of_cpu_devices():
    assert make_topology_mesh("here", "data") == sharding.make_mesh("data")
    assert make_topology_mesh("cpu:4", "rows").shape == {"rows": 4}
    with pytest.raises(UserError, match="--dry_run=cpu:9: JAX has started with 8 CPU devices"):
        make_topology_mesh("cpu:9", "data")


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="pip install libtpu: the TPU compiler is missing"
)
def test_a_program_is_compiled_for_tpus_that_are_not_there():
    mesh = make_topology_mesh("v5e:2x4", "data")
    assert mesh.devices.flat[0].device_kind == "TPU v5 lite"
    assert mesh.shape == {"data": 8}
    assert sharding.put_replicated({"a": 1}, mesh) == {"a": 1}  # nothing can be put there
    jitted = jax.jit(
        lambda x: x.sum(0), in_shardings=NamedSharding(mesh, P("data")), out_shardings=NamedSharding(mesh, P())
    )
    compiled = jitted.lower(jax.ShapeDtypeStruct((16, 128), jnp.float32)).compile()
    assert by_kind(collectives(compiled.as_text())) == {"all-reduce": Kind(1, 512, True)}
    with pytest.raises(UserError, match="--dry_run=v5e:3x5 is refused by the TPU compiler"):
        make_topology_mesh("v5e:3x5", "data")


def test_a_batch_that_does_not_divide_is_refused():
    config = shrink(world_quickstart.get_config())
    config.batch_size = 12
    with pytest.raises(UserError, match=r"config.batch_size=12 does not divide by 8 devices; use 8 or 16"):
        find_needs(config, "cpu:8")


@jax.numpy_dtype_promotion("standard")  # Optax raises a float to an integer power
def test_needs_of_a_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = shrink(base.get_config())
    config.data.update(dict(name="kitti_raw", root="", views=("stereo",)))  # the recordings are elsewhere
    config.model.scales = 1
    needs = find_needs(config, "cpu:8")
    assert not list(tmp_path.iterdir())
    sizes = [
        leaf.size for leaf in jax.tree.leaves(build(with_root(config), sharding.make_mesh("data")).template.params)
    ]
    assert needs.parameters == sum(sizes)
    # One of eight samples: the target and a view; seven numbers (camera, baseline, speed, index); one view is valid.
    assert needs.batch == 2 * 32 * 64 * 3 + 7 * 4 + 1
    # Parameters and two moments of Adam, all on every device; statistics and counters come on top.
    assert 12 * sum(sizes) < needs.state < 12.5 * sum(sizes)
    assert needs.arguments == needs.state + needs.batch - 2 * 4  # JAX drops what is not used: index and speed
    assert needs.total == needs.arguments + needs.outputs + needs.temporaries + needs.program
    reduced = by_kind(needs.collectives)["all-reduce"]
    assert reduced.counted
    assert reduced.bytes >= 4 * sum(sizes)
    assert needs.flops > 1e6
    assert not needs.taught
    table = describe(needs)
    assert "8 x cpu" in table
    assert f"all-reduce    {reduced.times}, " in table


def with_root(config):
    config = config.copy_and_resolve_references()
    config.data.root = "elsewhere"
    return config


@jax.numpy_dtype_promotion("standard")  # as above
def test_a_taught_step_is_lowered_with_the_batch_that_its_teacher_completes():
    config = shrink(kitti_structure_resnet18.get_config())
    experiment = build(config, sharding.make_mesh("data"))
    lowered = experiment.step.lower(experiment.template, batch_shapes(config))
    (_, batch), _ = lowered.args_info
    rows, columns = 32 // config.semantics.stride, 64 // config.semantics.stride
    assert batch.expert.shape[:3] == (8, rows, columns)
    assert batch.expert.dtype == jnp.float32
