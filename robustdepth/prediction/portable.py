"""A network in formats that run without this project, and each of them in its own runtime."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import io
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Float

from robustdepth.errors import UserError
from robustdepth.runtime.inference import DepthModel

INPUT, OUTPUT = "image", "inverse_depth"
PLATFORMS = ("cpu", "cuda", "tpu")
Images = Float[np.ndarray, "batch height width 3"]
Maps = Float[np.ndarray, "batch height width"]


@dataclasses.dataclass(frozen=True)
class Format:
    """How a network is written in one format, and run from it.

    Attributes:
      suffix: of its files.
      packages: that writing and running need, and for them the extra of this package.
      any_batch: whether a file may take any number of images at once.
      convert: the file's content for a batch of that many images, 0 for any number.
      run: inverse depth of images in [0, 1], by the format's own runtime from a file.
    """

    suffix: str
    packages: tuple[str, ...]
    any_batch: bool
    convert: Callable[[DepthModel, int], bytes]
    run: Callable[[pathlib.Path, Images], Maps]

    def check(self, name: str, batch: int) -> None:
        """Raises UserError where a package is missing, or for a batch that the format cannot hold."""
        for package in self.packages:
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise UserError(
                    f"--format={name} needs {package} ({error}): pip install 'robustdepth[{name}]'."
                ) from None
        if batch < 0:
            raise UserError(f"--batch={batch} must be 0 (any number of images at once) or more.")

    def versions(self) -> dict[str, str]:
        """Of JAX and of the format's packages."""
        return {package: importlib.metadata.version(package) for package in ("jax", *self.packages)}


def _to_stablehlo(model: DepthModel, batch: int) -> bytes:
    return bytes(_exported(model, batch, PLATFORMS).serialize())


def _exported(model: DepthModel, batch: int, platforms: tuple[str, ...]) -> export.Exported:
    (count,) = (batch,) if batch else export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((count, *model.image_size, 3), jnp.float32)
    return export.export(jax.jit(model.inverse_depth), platforms=platforms)(shape)


def _run_stablehlo(path: pathlib.Path, images: Images) -> Maps:
    return np.asarray(export.deserialize(bytearray(path.read_bytes())).call(images))


def _to_onnx(model: DepthModel, batch: int) -> bytes:
    jax2onnx = importlib.import_module("jax2onnx")
    shape = (batch or "batch", *model.image_size, 3)
    with _quiet():
        graph = jax2onnx.to_onnx(
            model.inverse_depth, [shape], model_name="robustdepth", input_names=[INPUT], output_names=[OUTPUT]
        )
    del graph.graph.value_info[:]  # shapes of intermediate arrays, some of which the converter names wrongly
    return graph.SerializeToString()


def _run_onnx(path: pathlib.Path, images: Images) -> Maps:
    session = importlib.import_module("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {INPUT: images})[0]


def _to_litert(model: DepthModel, batch: int) -> bytes:
    """By the converter's own MLIR bindings: it reads the StableHLO that JAX writes, without TensorFlow."""
    api = importlib.import_module("litert_converter.converter_api_ext")
    ir, passes = (importlib.import_module(f"litert_converter.mlir.{name}") for name in ("ir", "passmanager"))
    text = _exported(model, batch or 1, ("cpu",)).mlir_module()
    context = ir.Context()
    api.prepare_mlir_context(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(text)
        api.set_signature(module.operation, "serving_default", [INPUT], [OUTPUT])
        api.run_convert_to_tfl_passes(module, passes.PassManager(), api.ConvertToTFLConfig())
        return api.export_flatbuffer_to_bytes(module.operation)


def _run_litert(path: pathlib.Path, images: Images) -> Maps:
    runtime = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = runtime.Interpreter(model_path=str(path))
    call = interpreter.get_signature_runner("serving_default")
    return call(**{INPUT: images})[OUTPUT]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Converters talk on stdout, by warnings and by logging; errors still come through."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


FORMATS: Mapping[str, Format] = {
    "stablehlo": Format(".stablehlo", (), True, _to_stablehlo, _run_stablehlo),
    "onnx": Format(".onnx", ("jax2onnx", "onnxruntime"), True, _to_onnx, _run_onnx),
    "litert": Format(".tflite", ("litert_converter", "ai_edge_litert"), False, _to_litert, _run_litert),
}
