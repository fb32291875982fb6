"""The 18 corruptions of the robustness benchmark, batched on the accelerator; modules here may add others."""

from robustdepth.registry import import_all

import_all(__name__)
