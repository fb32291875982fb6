"""What training reads, one module for each kind of recording, which lists it; all are imported together."""

from robustdepth.registry import import_all

import_all(__name__)
