"""What the keys of a config may be, where they name one of several things."""

from robustdepth.data.benchmarks.protocol import PROTOCOLS
from robustdepth.data.recordings.clips import RECORDINGS
from robustdepth.models.encoder import ENCODERS, TRANSFORMERS
from robustdepth.models.experts import EXPERTS, WORLD
from robustdepth.models.resnet import NORMALISATIONS
from robustdepth.models.stereo_net import STEREO_NETWORKS

NO_PROTOCOL = "none"  # to validate under
CHOICES = {
    "model.output_stride": (1, 2, 4, 8),
    "model.dtype": ("float32", "bfloat16"),
    "optimizer.schedule": ("drops", "cosine"),
    "model.remat": ("none", "convolutions", "full"),
    "model.mask_decoder": ("none", "loss", "concatenated"),
    "sharding.axis": ("data",),
    "sharding.statistics": ("batch", "device"),
    "task": ("depth", "segmentation", "stereo"),
    "texture.illumination": ("guided", "multi_scale", "total_variation"),
    "reprojection.smooth_edges": ("image", "illumination"),
    "semantics.stride": (4, 8, 16),
    "semantics.graph": ("learned", "fixed", "none"),
    "selective.proxy": ("stereo_net", "sgm", "files", "truth"),
    "selective.mask": ("off", "argmin", "learned", "independent"),
}


def choices() -> dict[str, tuple]:
    """What each key may be: CHOICES, and what the lists hold by now, to which other packages may add."""
    return CHOICES | {
        "data.name": ("none", *RECORDINGS),
        "model.encoder": (*ENCODERS, *TRANSFORMERS),
        "model.pose_encoder": tuple(ENCODERS),
        "model.normalisation": tuple(NORMALISATIONS),
        "semantics.expert": (WORLD, *EXPERTS),
        "validate.protocol": (NO_PROTOCOL, *PROTOCOLS),
        "stereo.network": tuple(STEREO_NETWORKS),
    }
