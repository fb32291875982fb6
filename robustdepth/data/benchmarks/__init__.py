"""Public datasets for evaluation, one module each, which adds it and its protocols; all are imported together."""

from robustdepth.registry import import_all

import_all(__name__)
