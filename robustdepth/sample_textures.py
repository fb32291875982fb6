"""Writes a contact sheet of the texture changes: python -m robustdepth.sample_textures --output=sheet.jpg."""

from absl import app, flags, logging

from robustdepth.errors import UserError, run_main

_OUTPUT = flags.DEFINE_string("output", None, "JPEG or PNG file to write.", required=True)
_SCENES = flags.DEFINE_list(
    "scenes", ["0", "3", "9"], "Which unseen worlds, side by side; each lends its texture to the one before."
)
_SIZE = flags.DEFINE_list("size", ["96", "320"], "Height and width of a picture.")
_ILLUMINATION = flags.DEFINE_string("illumination", "guided", "guided, multi_scale or total_variation.")
_STRENGTH = flags.DEFINE_float("strength", 1.0, "Of the changes; training goes from 0.3 to 1.", 0.0, 1.0)
_SEED = flags.DEFINE_integer("seed", 2, "Another seed draws other changes.")

SHOWN = 1.5  # reflectance that is shown as white


def main(_) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # JAX is talkative
    run_main(_sample)


def _sample() -> None:
    import jax  # JAX starts only once the flags are right
    import jax.numpy as jnp
    import numpy as np

    from robustdepth.imaging.retinex import decompose, recompose
    from robustdepth.methods.texture import interfering_texture, jitter_illumination, missing_texture
    from robustdepth.prediction.sheet import contact_sheet, save_picture
    from robustdepth.world.generate import render_examples

    try:
        scenes = np.array([int(value) for value in _SCENES.value])
        height, width = (int(value) for value in _SIZE.value)
        if not scenes.size:
            raise ValueError
    except ValueError:
        raise UserError("--scenes or --size hold no numbers, such as 0,3 or 96,320.") from None
    batch, _ = render_examples(scenes, seed=1, split="evaluation", size=(height, width), views=())
    image = jnp.asarray(batch.target, jnp.float32) / 255.0
    texture, light = decompose(image, _ILLUMINATION.value)
    key, strength = jax.random.key(_SEED.value), jnp.full(len(scenes), _STRENGTH.value, jnp.float32)
    missing, other_light = missing_texture(texture, key, strength), jitter_illumination(light, key, strength)
    rows = {
        "original": image,
        "illumination": jnp.broadcast_to(light, image.shape),
        "reflectance": jnp.clip(texture / SHOWN, 0.0, 1.0),
        "missing": recompose(missing, light),
        "interfering": recompose(interfering_texture(texture, key, strength), light),
        "jitter": recompose(texture, other_light),
        "all": recompose(interfering_texture(missing, key, strength), other_light),
    }
    sheet = {name: np.concatenate(list(np.asarray(row)), axis=1) for name, row in rows.items()}
    save_picture(contact_sheet(sheet), _OUTPUT.value)
    print(f"{len(rows)} rows of {len(scenes)} worlds in {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)
