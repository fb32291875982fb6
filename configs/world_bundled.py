"""The networks that come with the package: compact ones, taught by the procedural world's true depth and motion.

    python -m robustdepth.train --config=configs/world_bundled.py --workdir=runs/bundled
    python -m robustdepth.export --checkpoint=runs/bundled --output=robustdepth/weights/robustdepth_world.safetensors

The encoder learns, at a fifth of the decoder's rate. Cameras drawn at random stand between the world and the networks.
Depth comes at full size and in metres for the canonical camera. robustdepth/weights/README.md is the model card.

What the world teaches is its texture, too, and real streets have another. So a view of changed texture must have the
clear view's depth (METHOD.md 2): row "texture", which is the default. Row "base" goes without.
"""

from configs import base

ROWS = {
    "base": {},
    "texture": {
        "loss.texture_consistency": 1.0,
        "texture.illumination": "multi_scale",
        "second_view.bidirectional": False,  # truth teaches the clear view, and that the other
    },
}


def get_config(row="texture"):
    config = base.get_config()
    config.name = "world_bundled" if row == "texture" else f"world_bundled_{row}"
    config.image_size = (128, 416)
    config.batch_size = 8
    config.data.world_share = 1.0
    config.data.views = ("next",)  # for the pose network; depth needs none
    config.data.grey = 0.15
    config.data.jitter = (0.3, 0.3, 0.5, 0.1)
    config.data.camera_effects = 1.0
    config.model.encoder = "efficientnet_lite0"
    config.model.pretrained = "package"
    config.model.decoder_width = 0.5
    config.model.scales = 1
    config.model.canonical_focal = 0.58
    config.model.pose_encoder = "resnet_tiny"
    config.model.pose_scale = 0.3
    config.loss.photometric = 0.0
    config.loss.smoothness = 0.0
    config.loss.truth = 1.0
    config.loss.truth_shape = 0.5
    config.loss.truth_gradient = 0.5
    config.loss.truth_motion = 0.3
    config.optimizer.learning_rate = 1e-3
    config.optimizer.encoder_factor = 0.2
    config.optimizer.steps = 6_000
    config.optimizer.warmup_steps = 200
    config.optimizer.schedule = "cosine"
    config.optimizer.ema_decay = 0.998
    config.log.every = 50
    config.log.images_every = 500
    config.checkpoint.every = 100
    config.update_from_flattened_dict(ROWS[row])
    return config
