"""What student and expert see: python -m robustdepth.sample_features --checkpoint=DIR --output=features.jpg.

Every row shows unseen worlds in one state, clear, with changed texture, or under weather: for each of them the image,
the depth network's features, the semantic expert's features, and depth. Features appear by their first three principal
components over all rows, so that equal colours are equal features: a robust student keeps its colours from row to row.
"""

from absl import app, flags, logging

from robustdepth.errors import UserError, run_main

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A training's working folder, or a model file.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "PNG or JPEG file to write.", required=True)
_SCENES = flags.DEFINE_list("scenes", ["0", "3"], "Which unseen worlds, side by side.")
_CONDITIONS = flags.DEFINE_list("conditions", ["rain", "night"], "Weather of the rows below clear and texture.")


def main(_) -> None:
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # JAX is talkative
    run_main(_sample)


def _sample() -> None:
    try:
        scenes = [int(value) for value in _SCENES.value]
    except ValueError:
        raise UserError("--scenes holds no numbers, such as 0,3.") from None
    from robustdepth.prediction.features import feature_sheet  # JAX starts only once the flags are right
    from robustdepth.prediction.sheet import save_picture

    sheet = feature_sheet(_CHECKPOINT.value, scenes, _CONDITIONS.value)
    save_picture(sheet, _OUTPUT.value)
    print(f"features of {len(scenes)} worlds in {_OUTPUT.value}: image, student, expert and depth of each")


if __name__ == "__main__":
    app.run(main)
