"""What a config switches on, read from the weights in config.loss alone."""

from ml_collections import ConfigDict

from robustdepth.types import STEREO

BASE_TERMS = ("photometric", "smoothness", "geometric", "velocity")
SECOND_VIEWS = ("texture", "weather")
SEMANTIC_TERMS = ("semantics_edge", "semantics_node", "semantics_anchor")
TRANSFER_TERMS = ("transfer_feature", "transfer_distribution")
START_TERMS = ("start",)
TRUTH_TERMS = ("truth", "truth_shape", "truth_gradient", "truth_motion")


def uses(config: ConfigDict, *terms: str) -> bool:
    """Whether any of these loss terms has a weight; configs from before a term existed have none."""
    return any(bool(config.loss.get(term, 0.0)) for term in terms)


def uses_view(config: ConfigDict, name: str) -> bool:
    """Whether training shows the depth network this second view ("texture" or "weather") of the target."""
    return uses(config, f"{name}_photometric", f"{name}_consistency")


def uses_semantics(config: ConfigDict) -> bool:
    """Whether a semantic expert teaches the depth network."""
    return config.task == "depth" and uses(config, *SEMANTIC_TERMS)


def uses_transfer(config: ConfigDict) -> bool:
    """Whether a stereo network's geometry teaches the depth network's features."""
    return config.task == "depth" and uses(config, *TRANSFER_TERMS)


def uses_proxy(config: ConfigDict) -> bool:
    """Whether a stereo method's disparity teaches the depth network."""
    return config.task == "depth" and uses(config, "proxy")


def uses_truth(config: ConfigDict) -> bool:
    """Whether the procedural world's true depth and motion teach."""
    return config.task == "depth" and uses(config, *TRUTH_TERMS)


def uses_start(config: ConfigDict) -> bool:
    """Whether the network that training starts from goes on teaching."""
    return config.task == "depth" and uses(config, *START_TERMS)


def learns_metres(config: ConfigDict) -> bool:
    """Whether the scale of depth is learned: from a stereo rig's baseline, the vehicle's speed, or true depth."""
    return STEREO in config.data.views or uses(config, "velocity", "truth")
