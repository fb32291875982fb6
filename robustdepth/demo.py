"""A page to play with: depth of a picture or short video, clear and under weather: python -m robustdepth.demo."""

from __future__ import annotations

import functools
import itertools
import os
import pathlib
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

from absl import app, flags, logging

from robustdepth.errors import UserError, run_main
from robustdepth.paths import command_line
from robustdepth.runtime.compilation_cache import keep_compiled

CLEAR = "clear"
BOTH = ("rain+night", "fog+dusk")
LARGEST_FILE = 100  # MB
KEPT = 3600.0  # seconds that results stay on the disk
INTRODUCTION = """# robustdepth
Depth from one camera, and what weather does to it. Everything stays on this machine."""
FIRST = "Drop a picture or a short video on the left, or render a street. The first one of each kind takes longest."


def define_flags() -> None:
    """The flags of this command, which it defines where it runs: several commands can be imported in one process."""
    flags.DEFINE_list(
        "checkpoint", ["bundled"], "What to choose from: working folders, one step of them, or published weights."
    )
    flags.DEFINE_integer("port", 7860, "Where the page is.", lower_bound=1, upper_bound=65535)
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines see the page.")


def main(argv: list[str]) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # checkpoint readers are talkative
    run_main(lambda: _serve(flags.FLAGS.checkpoint, flags.FLAGS.host, flags.FLAGS.port), argv[1:])


def _serve(checkpoints: list[str], host: str, port: int) -> None:
    with tempfile.TemporaryDirectory(prefix="robustdepth-demo-") as folder:
        gradio = import_gradio(folder)
        if not checkpoints:
            raise UserError("--checkpoint is empty: give bundled, a working folder, or a file of weights.")
        keep_compiled()
        from robustdepth.prediction.predictor import Predictor  # JAX starts only once the flags are right

        models = {path: Predictor.from_checkpoint(path) for path in checkpoints}
        page = build_page(gradio, models, pathlib.Path(folder))
        launch(page, host, port)
        print(f"http://{host}:{port} shows the page, until Ctrl-C.", flush=True)
        page.block_thread()


def launch(page: Any, host: str, port: int, largest_file: int = LARGEST_FILE * 10**6) -> None:
    """Serves the page from other threads. Raises UserError where the port cannot be had."""
    alone = dict(share=False, ssr_mode=False, footer_links=[], quiet=True, prevent_thread_lock=True)
    try:
        page.launch(server_name=host, server_port=port, max_file_size=largest_file, **alone)
    except OSError:
        raise UserError(
            f"cannot listen on {host}:{port}: another program has that port, or it may not be opened; give another "
            "--port."
        ) from None
    except ValueError:  # gradio gives up asking its own page after 3 s, which a busy machine may need; it is served
        logging.warning("The page answers slowly: the machine is busy, or a proxy stands before %s.", host)


def import_gradio(folder: str) -> Any:
    """The library of the page, told to ask nobody on the network and to keep its files in `folder`.

    Raises UserError where it, or what writes 3D views, is not installed.
    """
    quiet = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
    os.environ.update(quiet | {"GRADIO_TEMP_DIR": folder})
    try:
        import gradio
        import trimesh  # noqa: F401
    except ImportError as error:
        raise UserError(f"the page needs {error.name}: pip install 'robustdepth[demo]'.") from None
    return gradio


def build_page(gradio: Any, models: Mapping[str, Any], folder: pathlib.Path) -> Any:
    """The page, a gradio.Blocks.

    Args:
      gradio: the library.
      models: predictors by the names that users choose from.
      folder: for files of results.
    """
    from robustdepth.conditions.spec import CONDITIONS

    with gradio.Blocks(title="robustdepth", analytics_enabled=False, delete_cache=(int(KEPT), int(KEPT))) as page:
        gradio.Markdown(INTRODUCTION)
        with gradio.Row():
            with gradio.Column(scale=1, min_width=280):
                file = gradio.File(label=f"Picture or short video, up to {LARGEST_FILE} MB", height=170)
                street = gradio.Button("Render a street")
                condition = gradio.Dropdown([CLEAR, *CONDITIONS, *BOTH], value=CLEAR, label="Condition")
                severity = gradio.Slider(0, 1, value=0.7, step=0.05, label="Severity")
                model = gradio.Dropdown(list(models), label="Model", visible=len(models) > 1)
            with gradio.Column(scale=3):
                message = gradio.Markdown(FIRST, elem_id="message")
                with gradio.Row():
                    picture = _captioned(gradio, gradio.ImageSlider, "**Picture**: clear | under the condition")
                    depth = _captioned(gradio, gradio.ImageSlider, "**Depth**: clear | under the condition")
                with gradio.Row():
                    words = "**Difference** of the two depths: red is nearer, blue is farther"
                    difference = _captioned(gradio, gradio.Image, words)
                    words = "**3D view** under the condition: drag to turn, scroll to zoom"
                    surface = _captioned(gradio, gradio.Model3D, words, height=300, camera_position=(90, 80, 0.7))
                film = gradio.Video(
                    label="Film: picture, depth and difference", height=480, visible=False, interactive=False, loop=True
                )

        # Plain functions one after the other: gradio shows no 3D view that comes from a generator.
        given = [file, model, condition, severity]
        events = [file.change, model.change, condition.change, severity.change]
        seen = gradio.on(
            events,
            functools.partial(show, models, folder),
            given,
            [message, picture, depth, difference, surface],
            trigger_mode="always_last",
        )

        def run(*given: Any) -> Any:
            path = make_film(models, folder, *given)
            return gradio.Video(path, visible=path is not None)

        seen.then(run, given, film, trigger_mode="always_last")
        street.click(functools.partial(_street, folder), None, file)
    return page


def _captioned(gradio: Any, component: Any, words: str, **options: Any) -> Any:
    """A component below its caption: gradio's own labels hide the upper corner of wide pictures."""
    with gradio.Column():
        gradio.Markdown(words)
        buttons = {} if component is gradio.Model3D else {"buttons": ["fullscreen", "download"]}
        return component(show_label=False, interactive=False, **buttons, **options)


def _street(folder: pathlib.Path) -> str:
    from robustdepth.prediction.conditioned import STREET, write_street

    return str(write_street(random.randrange(10**6), folder, STREET))


def show(
    models: Mapping[str, Any], folder: pathlib.Path, file: str | None, model: str, condition: str, severity: float
) -> tuple[Any, ...]:
    """What the page shows of a file, or of a video's first frame: sentence, pictures, depths, difference, surface.

    The sentence alone where the file cannot be used.
    """
    from robustdepth.imaging.colormap import ColorRange
    from robustdepth.prediction.conditioned import describe_colors, read_footage

    if file is None:
        return FIRST, *EMPTY
    try:
        footage = read_footage(pathlib.Path(file))
        first = next(_frames(models[model], footage, condition, severity))
    except UserError as error:
        return f"**This file cannot be used:** {error}", *EMPTY
    shown, is_clear = ColorRange.of(first.clear.inverse_depth), condition == CLEAR
    words = "choose a condition to see what it does." if is_clear else f"{first.words()}."
    words = f"**{condition}**: {words}\n\n{describe_colors(first.clear, shown)}; {'; '.join(footage.notes)}."
    surface: pathlib.Path | None = _new_folder(folder) / "surface.glb"
    try:
        first.write_surface(surface)
    except UserError:  # depth jumps everywhere, and no surface is left
        surface = None
    difference = None if is_clear else first.difference()
    return words, (first.original, first.image), first.colors(shown), difference, surface and str(surface)


EMPTY = (None,) * 4


def make_film(
    models: Mapping[str, Any], folder: pathlib.Path, file: str | None, model: str, condition: str, severity: float
) -> str | None:
    """The film of a video; None of a picture, and of a file that cannot be used."""
    from robustdepth.imaging.colormap import ColorRange
    from robustdepth.prediction.conditioned import read_footage, write_film

    try:
        footage = read_footage(pathlib.Path(file)) if file else None
        if footage is None or not footage.rate:
            return None
        frames = _frames(models[model], footage, condition, severity)
        first = next(frames)
        film = _new_folder(folder) / "film.webm"
        shown = ColorRange.of(first.clear.inverse_depth)
        write_film(film, itertools.chain([first], frames), footage.rate, shown)
    except UserError:
        return None  # `show` has said why
    return str(film)


def _frames(predictor: Any, footage: Any, condition: str, severity: float) -> Iterator[Any]:
    from robustdepth.conditions.spec import parse
    from robustdepth.prediction.conditioned import compare

    if condition == CLEAR:
        return compare(predictor, footage, (), 0.0)
    return compare(predictor, footage, parse(condition), float(severity))


def _new_folder(folder: pathlib.Path) -> pathlib.Path:
    """A folder for results inside `folder`; those of more than an hour ago are removed."""
    for old in folder.glob("result-*"):
        if time.time() - old.stat().st_mtime > KEPT:
            shutil.rmtree(old, ignore_errors=True)
    return pathlib.Path(tempfile.mkdtemp(prefix="result-", dir=folder))


if __name__ == "__main__":
    define_flags()
    app.run(main, argv=command_line())
