"""Two minutes on a few frames of your own. Run this first: it shows whether camera.json and footage fit.

    python -m robustdepth.train --config=configs/overfit_clip.py --workdir=runs/overfit --config.data.root=MY_CLIP

The photometric loss must fall to a third or so of its start, and depth_spread rise above 0.3; docs/own_footage.md says
what to do when they do not. With a single camera the learning rate matters: at three times this rate the pose
network learned faster than the depth network on a real clip, and depth stayed flat.
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
    config.model.encoder = "efficientnet_lite0"
    config.model.pretrained = "package"
    config.model.freeze_encoder = True
    config.model.pose_encoder = "resnet_tiny"
    config.model.decoder_width = 0.25
    config.model.output_stride = 2
    config.model.scales = 2
    config.model.pose_scale = 0.03
    config.optimizer.learning_rate = 3e-4
    config.optimizer.steps = 300
    config.optimizer.warmup_steps = 20
    config.log.every = 20
    config.log.images_every = 100
    config.checkpoint.every = 100
    return config
