"""The quickstart: a compact network learns depth from stereo on the procedural world, in minutes on two CPU cores.

python -m robustdepth.train --config=configs/world_quickstart.py --workdir=runs/quickstart

Measured in docs/results.md: AbsRel 0.207 on unseen worlds, 44% below the better trivial baseline, in 10 busy minutes.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "world_quickstart"
    config.image_size = (64, 208)
    config.batch_size = 8
    config.data.world_share = 1.0
    config.data.views = ("stereo",)
    config.model.encoder = "efficientnet_lite0"
    config.model.pretrained = "package"
    config.model.freeze_encoder = True
    config.model.decoder_width = 0.25
    config.model.output_stride = 2
    config.model.scales = 2  # each further scale costs as much of the loss again
    config.optimizer.learning_rate = 2e-3
    config.optimizer.steps = 4_000
    config.optimizer.warmup_steps = 80
    config.optimizer.drops = (0.75, 0.92)
    config.log.every = 100
    config.log.images_every = 1_000
    config.checkpoint.every = 1_000
    return config
