"""The offline semantic expert: a segmentation network on the procedural world's labels.

    python -m robustdepth.train --config=configs/world_expert.py --workdir=runs/expert
    python -m robustdepth.evaluate --workdir=runs/expert --protocols=world --output=runs/expert/eval
    python -m robustdepth.export --checkpoint=runs/expert --output=expert.safetensors

The file that comes with the package was made this way; config.semantics.weights takes another.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "world_expert"
    config.task = "segmentation"
    config.image_size = (64, 208)
    config.batch_size = 16
    config.data.world_share = 1.0
    config.data.views = ("stereo",)  # rendered but not read: a batch has at least one source view
    config.data.grey = 0.3  # so that it knows grey footage as well
    config.data.jitter = (0.4, 0.4, 0.4, 0.1)
    config.model.encoder = "efficientnet_lite0"
    config.model.pretrained = "package"
    config.model.freeze_encoder = True
    config.model.decoder_width = 0.25
    config.model.output_stride = 4
    config.optimizer.learning_rate = 2e-3
    config.optimizer.steps = 2_000
    config.optimizer.warmup_steps = 80
    config.optimizer.drops = (0.75, 0.92)
    config.log.every = 100
    config.log.images_every = 1_000
    config.checkpoint.every = 500
    return config
