"""Kernels and bytes of compiled programs: a text whose counts are known, and programs whose work is known."""

import jax
import jax.numpy as jnp

from robustdepth.compiling.kernels import Kernel, Sum, by_part, custom_calls, kernels

PROGRAM = """HloModule made_up

%fused (p: f32[8]) -> f32[8] {
  ROOT %twice = f32[8]{0} add(%p, %p)
}

%graph (q: f32[8]) -> (f32[8], f32[4]) {
  %q = f32[8]{0} parameter(0)
  %first = f32[8]{0} fusion(%q), kind=kLoop, calls=%fused, metadata={op_name="jit(step)/jvp(PoseNet)/add"}
  %second = f32[4]{0} slice(%first), slice={[0:4]}, metadata={op_name="jit(step)/transpose(jvp(DepthNet))/slice"}
  ROOT %pair = (f32[8]{0}, f32[4]{0}) tuple(%first, %second)
}

ENTRY %main (x: f32[8], y: bf16[2,3]) -> (f32[8], f32[4]) {
  %x = f32[8]{0} parameter(0)
  %y = bf16[2,3]{1,0} parameter(1)
  %one = f32[] constant(1)
  %flat = bf16[6]{0} bitcast(%y)
  %conv = (f32[8]{0}, u8[16]{0}) custom-call(%x, %flat), custom_call_target="__cudnn$conv", metadata={op_name="jvp()"}
  %result = f32[8]{0} get-tuple-element(%conv), index=0
  %sum = f32[8]{0} all-reduce(%result), to_apply=%fused, metadata={op_name="jit(step)/adam"}
  ROOT %out = (f32[8]{0}, f32[4]{0}) call(%sum), to_apply=%graph
}
"""


def test_counts_of_a_program_whose_text_is_known():
    found = kernels(PROGRAM)
    assert found == [
        Kernel("custom-call", 32 + 16 + 32 + 12, "losses with augmentation", "__cudnn$conv"),
        Kernel("all-reduce", 32 + 32, "optimiser and rest", ""),
        Kernel("fusion", 32 + 32, "pose network", ""),
        Kernel("slice", 16 + 32, "depth network", ""),
    ]
    assert by_part(found)["depth network"] == Sum(1, 48)
    assert custom_calls(found) == {"__cudnn$conv": 1}


def test_a_compiled_product_reads_both_factors_and_writes_the_result():
    shape = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    found = kernels(jax.jit(lambda a, b: a @ b).lower(shape, shape).compile().as_text())
    assert sum(kernel.bytes for kernel in found) == 3 * 64 * 64 * 4
