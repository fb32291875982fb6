"""Pictures of worlds that no training sees: as they are, with changed texture, under weather, or as networks see them.

python -m robustdepth.sample world --output=FOLDER [--count=8 --height=192 --width=640]
python -m robustdepth.sample textures --output=sheet.jpg [--scenes=0,3,9 --illumination=guided --strength=1]
python -m robustdepth.sample conditions --output=sheet.jpg [--conditions=fog,rain+night --severities=0.3,1]
python -m robustdepth.sample features --checkpoint=DIR --output=sheet.jpg [--conditions=rain,night]
"""

import argparse
import json
import pathlib
from typing import Any

from robustdepth.errors import UserError, run_main
from robustdepth.paths import command_line

WHITE = 1.5  # reflectance that is shown as white


def main() -> None:
    arguments = parse()
    arguments.run(arguments)


def parse() -> argparse.Namespace:
    """The command line; argparse explains mistakes and exits with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m robustdepth.sample", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("world", help="write pictures of worlds, and the camera of each beside it")
    command.set_defaults(run=sample_world)
    command.add_argument("--output", required=True, help="folder for the pictures")
    command.add_argument("--count", type=_positive, default=8, help="how many worlds")
    command.add_argument("--seed", type=int, default=1, help="another seed gives other worlds")
    _add_size(command, 192, 640)

    command = commands.add_parser("textures", help="draw a sheet of the texture changes")
    command.set_defaults(run=sample_textures)
    _add_sheet(command, "0,3,9", "; each lends its texture to the one before")
    command.add_argument("--illumination", default="guided", help="guided, multi_scale or total_variation")
    command.add_argument("--strength", type=_share, default=1.0, help="of the changes; training goes from 0.3 to 1")
    command.add_argument("--seed", type=int, default=2, help="another seed draws other changes")
    _add_size(command, 96, 320)

    command = commands.add_parser("conditions", help="draw a sheet of weather and other conditions")
    command.set_defaults(run=sample_conditions)
    _add_sheet(command, "0,3")
    command.add_argument("--conditions", type=_words, default=[], help="such as fog,rain+night; default: all")
    command.add_argument("--severities", type=_shares, default="0.3,0.65,1", help="columns of every world")
    _add_size(command, 80, 256)

    command = commands.add_parser("features", help="draw what student and expert see, clear and changed")
    command.set_defaults(run=sample_features)
    _add_sheet(command, "0,3")
    command.add_argument("--checkpoint", required=True, help="a training's working folder, or a model file")
    command.add_argument("--conditions", type=_words, default="rain,night", help="rows below clear and texture")
    return parser.parse_args(command_line()[1:])


def sample_world(arguments: argparse.Namespace) -> None:
    """Writes world_00000.png and on, and world_00000.json with its camera (docs/own_footage.md)."""
    import numpy as np  # JAX starts only once the command line is right
    from PIL import Image

    from robustdepth.world.generate import render_examples

    height, width = arguments.height, arguments.width
    scenes = np.arange(arguments.count)
    batch, _ = render_examples(scenes, seed=arguments.seed, split="evaluation", size=(height, width), views=())
    intrinsics = np.concatenate([batch.camera.focal, batch.camera.center], axis=1).tolist()
    folder = pathlib.Path(arguments.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(np.asarray(batch.target)):
            file = folder / f"world_{i:05d}"
            Image.fromarray(image).save(file.with_suffix(".png"))
            camera = dict(zip(("fx", "fy", "cx", "cy"), intrinsics[i], strict=True))
            file.with_suffix(".json").write_text(json.dumps({"width": width, "height": height} | camera) + "\n")
    except OSError as error:
        raise UserError(f"cannot write in {folder} ({error.strerror}): give another --output.") from None
    print(f"{arguments.count} pictures and their cameras in {folder}")


def sample_textures(arguments: argparse.Namespace) -> None:
    """Every world in a column: as it is, its Retinex parts, and each change of texture alone and all together."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from robustdepth.imaging.retinex import decompose, recompose
    from robustdepth.methods.texture import interfering_texture, jitter_illumination, missing_texture
    from robustdepth.prediction.sheet import contact_sheet, save_picture
    from robustdepth.world.generate import render_examples

    scenes, size = np.array(arguments.scenes), (arguments.height, arguments.width)
    batch, _ = render_examples(scenes, seed=1, split="evaluation", size=size, views=())
    image = jnp.asarray(batch.target, jnp.float32) / 255.0
    texture, light = decompose(image, arguments.illumination)
    key, strength = jax.random.key(arguments.seed), jnp.full(len(scenes), arguments.strength, jnp.float32)
    missing, other_light = missing_texture(texture, key, strength), jitter_illumination(light, key, strength)
    rows = {
        "original": image,
        "illumination": jnp.broadcast_to(light, image.shape),
        "reflectance": jnp.clip(texture / WHITE, 0.0, 1.0),
        "missing": recompose(missing, light),
        "interfering": recompose(interfering_texture(texture, key, strength), light),
        "jitter": recompose(texture, other_light),
        "all": recompose(interfering_texture(missing, key, strength), other_light),
    }
    sheet = {name: np.concatenate(list(np.asarray(row)), axis=1) for name, row in rows.items()}
    save_picture(contact_sheet(sheet), arguments.output)
    print(f"{len(rows)} rows of {len(scenes)} worlds in {arguments.output}")


def sample_conditions(arguments: argparse.Namespace) -> None:
    """A row a condition; in it every world at each severity."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from robustdepth.conditions.spec import CONDITIONS, parse
    from robustdepth.prediction.sheet import contact_sheet, save_picture
    from robustdepth.world.generate import render_examples

    scenes, severities, size = np.array(arguments.scenes), arguments.severities, (arguments.height, arguments.width)
    render, key = {name: jax.jit(condition) for name, condition in CONDITIONS.items()}, jax.random.key(0)
    names = arguments.conditions or [*CONDITIONS, "rain+night", "fog+dusk"]
    specs = {name: parse(name)[0] for name in names}
    batch, truth = render_examples(scenes, seed=1, split="evaluation", size=size, views=())
    clear = np.asarray(batch.target, np.float32) / 255.0
    rows = {"clear": np.concatenate([clear[i] for i in range(len(scenes)) for _ in severities], axis=1)}
    for name, parts in specs.items():
        pictures = [jnp.asarray(clear)] * len(severities)
        for part in parts:
            for i, severity in enumerate(severities):
                strength = jnp.full(len(scenes), severity, jnp.float32)
                pictures[i] = render[part.name](pictures[i], truth.depth[:, 0], batch.camera, key, strength)
        rows[name] = np.concatenate([np.asarray(p[i]) for i in range(len(scenes)) for p in pictures], axis=1)
    save_picture(contact_sheet(rows), arguments.output)
    print(f"{len(names)} conditions in {arguments.output}")


def sample_features(arguments: argparse.Namespace) -> None:
    """A row a state, clear, with changed texture, or under weather; in it for every world the image, the depth
    network's features, the semantic expert's features, and depth.

    Features appear by their first three principal components over all rows, so that equal colours are equal features:
    a robust student keeps its colours from row to row.
    """
    from robustdepth.prediction.features import feature_sheet
    from robustdepth.prediction.sheet import save_picture

    sheet = feature_sheet(arguments.checkpoint, arguments.scenes, arguments.conditions)
    save_picture(sheet, arguments.output)
    print(f"features of {len(arguments.scenes)} worlds in {arguments.output}: image, student, expert and depth of each")


def _add_sheet(command: Any, scenes: str, more: str = "") -> None:
    command.add_argument("--output", required=True, help="PNG or JPEG file for the sheet")
    command.add_argument("--scenes", type=_integers, default=scenes, help=f"which worlds, side by side{more}")


def _add_size(command: Any, height: int, width: int) -> None:
    command.add_argument("--height", type=_pixels, default=height, help="of a picture, in pixels")
    command.add_argument("--width", type=_pixels, default=width, help="of a picture, in pixels")


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _integers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers, such as 0,3,9.") from None


def _shares(text: str) -> list[float]:
    return [_share(word) for word in text.split(",")]


def _share(text: str) -> float:
    return _number(text, float, 0.0, 1.0)


def _positive(text: str) -> int:
    return _number(text, int, 1, 10**6)


def _pixels(text: str) -> int:
    return _number(text, int, 16, 4096)


def _number(text: str, kind: type, low: float, high: float) -> Any:
    """A number from `low` to `high`, or argparse's error that says so."""
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {low} to {high}.")
    return value


if __name__ == "__main__":
    run_main(main)
