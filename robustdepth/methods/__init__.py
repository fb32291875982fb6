"""One module for each idea of the papers, which lists its method; objective.py composes them."""

from robustdepth.registry import import_all

import_all(__name__)
