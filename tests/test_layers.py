"""Packages import only from layers below them, modules never in a circle, and the package starts light."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "robustdepth"
BINARIES = "binaries"
LAYERS = (  # top layer first; packages of one layer do not import each other
    (BINARIES,),
    ("commands", "compiling"),
    ("training", "evaluation", "prediction"),
    ("teachers",),
    ("runtime",),
    ("methods",),
    ("models",),
    ("losses",),
    ("data",),
    ("world", "conditions"),
    ("geometry",),
    ("imaging",),
    ("interop",),
    ("numerics", "switches", "streams", "paths", "registry"),
    ("types",),
    ("errors",),
)
HEIGHT = {package: -i for i, layer in enumerate(LAYERS) for package in layer}
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def package_of(module: str) -> str:
    """The package of "geometry/camera.py", or of "geometry.camera"; single files above the lowest layers: binaries."""
    package = module.removesuffix(".py").replace("/", ".").split(".")[0]
    return package if package in HEIGHT else BINARIES


def imported(source: str) -> set[str]:
    """What a module imports of this project, inside functions too: "geometry.camera", or a name in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide what they name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("robustdepth.") for name in names if name.startswith("robustdepth.")}


def test_imports_are_found_wherever_they_stand():
    source = "import robustdepth.models.build\ndef f():\n    from robustdepth import errors\n    import jax\n"
    assert imported(source) == {"models.build", "errors"}
    assert {package_of(name) for name in imported("from robustdepth.train import main")} == {BINARIES}


@pytest.mark.parametrize("module", MODULES)
def test_a_package_imports_only_from_layers_below(module):
    package = package_of(module)
    packages = {package_of(name) for name in imported((PACKAGE / module).read_text())} - {package}
    too_high = {other for other in packages if HEIGHT[other] >= HEIGHT[package]}
    assert not too_high, f"{module} imports from {sorted(too_high)}, which is not below {package}"
    assert package == BINARIES or BINARIES not in packages


def test_every_folder_is_a_package_of_some_layer():
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*/*.py")}
    assert folders <= HEIGHT.keys(), f"{sorted(folders - HEIGHT.keys())} are in no layer: add them to LAYERS"


def in_order(sources: dict[str, str]) -> list[str]:
    """Modules, those that they import first; graphlib.CycleError where they import each other in a circle."""
    graph = {}
    for module, source in sources.items():
        names = imported(source)
        graph[module] = {other for other in names | {n.rpartition(".")[0] for n in names} if other in sources} - {
            module
        }
    return list(graphlib.TopologicalSorter(graph).static_order())


def test_no_modules_import_each_other_in_a_circle():
    with pytest.raises(graphlib.CycleError):
        in_order({"a": "from robustdepth.b import x", "b": "def f():\n    from robustdepth import a"})
    names = {module.removesuffix(".py").replace("/", "."): (PACKAGE / module).read_text() for module in MODULES}
    assert len(in_order(names)) == len(MODULES)


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running `code`."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_is_light():
    assert not loaded_after("import robustdepth") & {"jax", "numpy", "flax", "cv2", "PIL", "absl"}


def test_only_drawing_waits_for_matplotlib():
    loaded = loaded_after("import robustdepth.training.loop, robustdepth.evaluation.suite.run")
    assert "matplotlib" not in loaded


def test_no_module_needs_tensorflow_or_torch():
    modules = [name for name in MODULES if package_of(name) != BINARIES]  # those only parse flags
    names = [f"robustdepth.{name.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}" for name in modules]
    # tensorboardX uses torch where it is installed; None in sys.modules makes every import of it fail.
    barred = "import importlib, sys\nfor name in ('torch', 'torchvision'): sys.modules[name] = None\n"
    loaded = loaded_after(barred + "for name in " + repr(names) + ": importlib.import_module(name)")
    assert {"jax", "robustdepth"} <= loaded
    assert not loaded & {"tensorflow", "tensorboard"}
