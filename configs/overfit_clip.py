"""A minute on a few frames of your own footage: the first thing to run, it shows whether camera.json and footage fit.

    python -m robustdepth.train --config=configs/overfit_clip.py --workdir=runs/overfit --config.data.root=MY_CLIP

The photometric loss must fall clearly below its start; docs/own_footage.md says what to do when it does not.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "overfit_clip"
    config.image_size = (64, 208)
    config.batch_size = 4
    config.data.name = "frames"
    config.data.jitter = (0.0, 0.0, 0.0, 0.0)
    config.data.flip = False
    config.model.encoder = "resnet_tiny"
    config.model.pose_encoder = "resnet_tiny"
    config.model.decoder_width = 0.5
    config.model.pose_scale = 0.1
    config.optimizer.learning_rate = 1e-3
    config.optimizer.steps = 300
    config.optimizer.warmup_steps = 20
    config.log.every = 20
    config.log.images_every = 100
    config.checkpoint.every = 100
    return config
