"""What a corruption is, and the list of all."""

from collections.abc import Callable

from robustdepth.registry import Registry
from robustdepth.types import Array

# (image [height, width, 3] in [0, 1] that holds multiples of 1/255, severity - 1, key) -> image
Corruption = Callable[[Array, Array, Array], Array]
CORRUPTIONS: Registry[Corruption] = Registry("corruption", taken=("all",))
