"""A compact training on one clip, for tests that start the training command: one camera, no pretrained weights."""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "clip"
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
