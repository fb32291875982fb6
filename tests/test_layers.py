"""The house stands: rooms import only from floors below them, and the package starts light."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "robustdepth"
BINARIES = "binaries"
FLOORS = (  # top floor first; rooms on one floor do not import each other
    (BINARIES,),
    ("training", "evaluation", "prediction"),
    ("runtime",),
    ("methods",),
    ("models",),
    ("losses",),
    ("data",),
    ("world", "conditions"),
    ("geometry",),
    ("imaging",),
    ("interop",),
    ("types", "numerics"),
    ("errors",),
)
HEIGHT = {room: -i for i, floor in enumerate(FLOORS) for room in floor}
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """The room of "geometry/camera.py", or of "geometry.camera"; single files above the ground floor are binaries."""
    room = module.removesuffix(".py").replace("/", ".").split(".")[0]
    return room if room in HEIGHT else BINARIES


def imported_rooms(source: str) -> set[str]:
    """Rooms that a module imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide what they name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {room_of(name.removeprefix("robustdepth.")) for name in names if name.startswith("robustdepth.")}


def test_imports_are_found_wherever_they_stand():
    source = "import robustdepth.models.build\ndef f():\n    from robustdepth import errors\n    import jax\n"
    assert imported_rooms(source) == {"models", "errors"}
    assert imported_rooms("from robustdepth.train import main") == {BINARIES}


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_only_from_floors_below(module):
    room = room_of(module)
    rooms = imported_rooms((PACKAGE / module).read_text()) - {room}
    too_high = {other for other in rooms if HEIGHT[other] >= HEIGHT[room]}
    assert not too_high, f"{module} imports from {sorted(too_high)}, which is not below {room}"
    assert room == BINARIES or BINARIES not in rooms


def test_every_folder_is_a_room():
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*/*.py")}
    assert folders <= HEIGHT.keys(), f"{sorted(folders - HEIGHT.keys())} stand on no floor: add them to FLOORS"


@pytest.mark.parametrize("module", [name for name in MODULES if "/" not in name and room_of(name) == BINARIES])
def test_binaries_are_short(module):
    assert len((PACKAGE / module).read_text().splitlines()) < 80


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running `code`."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_is_light():
    assert not loaded_after("import robustdepth") & {"jax", "numpy", "flax", "cv2", "PIL", "absl"}


def test_no_module_needs_tensorflow_or_torch():
    modules = [name for name in MODULES if room_of(name) != BINARIES]  # those only parse flags
    names = [f"robustdepth.{name.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}" for name in modules]
    # tensorboardX uses torch where it is installed; None in sys.modules makes every import of it fail.
    barred = "import importlib, sys\nfor name in ('torch', 'torchvision'): sys.modules[name] = None\n"
    loaded = loaded_after(barred + "for name in " + repr(names) + ": importlib.import_module(name)")
    assert {"jax", "robustdepth"} <= loaded
    assert not loaded & {"tensorflow", "tensorboard"}
