"""robustdepth: self-supervised monocular depth that stays right in rain, fog, night and blur.

Importing the package is light; `robustdepth.load(path)` imports what it needs when called.
"""

__version__ = "0.1.0"


def load(path: str):
    """Loads a trained depth network for use from Python. See `robustdepth.prediction.predictor.Predictor`."""
    from robustdepth.prediction.predictor import Predictor

    return Predictor.from_checkpoint(path)
