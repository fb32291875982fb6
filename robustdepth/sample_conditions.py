"""Writes a contact sheet of all conditions: python -m robustdepth.sample_conditions --output=sheet.jpg."""

from absl import app, flags, logging

from robustdepth.errors import UserError, run_main

_OUTPUT = flags.DEFINE_string("output", None, "PNG or JPEG file to write.", required=True)
_SCENES = flags.DEFINE_list("scenes", ["0", "3"], "Which unseen worlds, side by side.")
_CONDITIONS = flags.DEFINE_list("conditions", [], "What to show, such as fog,rain+night; empty: everything.")
_SEVERITIES = flags.DEFINE_list("severities", ["0.3", "0.65", "1.0"], "Columns of every world.")
_SIZE = flags.DEFINE_list("size", ["80", "256"], "Height and width of a picture.")


def main(_) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # JAX is talkative
    run_main(_sample)


def _sample() -> None:
    import jax  # JAX starts only once the flags are right
    import jax.numpy as jnp
    import numpy as np

    from robustdepth.conditions.spec import CONDITIONS, parse
    from robustdepth.prediction.sheet import contact_sheet, save_picture
    from robustdepth.world.generate import render_examples

    try:
        scenes = np.array([int(value) for value in _SCENES.value])
        height, width = (int(value) for value in _SIZE.value)
        severities = [float(value) for value in _SEVERITIES.value]
    except ValueError:
        raise UserError("--scenes, --size or --severities hold no numbers, such as 0,3 or 96,320 or 0.3,1.") from None
    if not all(0.0 <= severity <= 1.0 for severity in severities):
        raise UserError(f"--severities={','.join(_SEVERITIES.value)} must lie within 0 to 1.")
    render, key = {name: jax.jit(condition) for name, condition in CONDITIONS.items()}, jax.random.key(0)
    names = _CONDITIONS.value or [*CONDITIONS, "rain+night", "fog+dusk"]
    batch, truth = render_examples(scenes, seed=1, split="evaluation", size=(height, width), views=())
    clear = np.asarray(batch.target, np.float32) / 255.0
    rows = {"clear": np.concatenate([clear[i] for i in range(len(scenes)) for _ in severities], axis=1)}
    for name in names:
        pictures = [jnp.asarray(clear)] * len(severities)
        for part in parse(name)[0]:
            for i, severity in enumerate(severities):
                strength = jnp.full(len(scenes), severity, jnp.float32)
                pictures[i] = render[part.name](pictures[i], truth.depth[:, 0], batch.camera, key, strength)
        rows[name] = np.concatenate([np.asarray(p[i]) for i in range(len(scenes)) for p in pictures], axis=1)
    save_picture(contact_sheet(rows), _OUTPUT.value)
    print(f"{len(names)} conditions in {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)
