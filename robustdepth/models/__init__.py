"""Networks: encoders, decoders, pose and stereo networks, semantic experts; all modules are imported together."""

from robustdepth.registry import import_all

import_all(__name__)
