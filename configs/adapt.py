"""The bundled networks on your own footage: a few minutes of training that fit them to your camera and streets.

    python -m robustdepth.train --config=configs/adapt.py --workdir=runs/adapt --config.data.root=MY_CLIP

Both networks start from those of the package. Neighbouring frames of the clip teach them; a quarter of every batch is
the procedural world with its true depth and motion, which keeps metres, outlines and sky. Rates are low, so that
nothing collapses; should depth collapse all the same, training begins again by itself, at most twice.
WORKDIR/result.png shows a frame beside its depth.
"""

from configs import world_bundled


def get_config():
    config = world_bundled.get_config("base")
    config.name = "adapt"
    config.init_from = "bundled"
    config.data.name = "frames"
    config.data.views = ("previous", "next")
    config.data.world_share = 0.25
    config.data.camera_effects = 0.0
    config.data.jitter = (0.2, 0.2, 0.2, 0.05)
    config.data.grey = 0.0
    config.model.freeze_statistics = True
    config.loss.photometric = 1.0
    config.loss.smoothness = 1e-3
    config.loss.start = 0.1
    config.loss.truth = 0.1
    config.loss.truth_shape = 0.05
    config.loss.truth_gradient = 0.05
    config.loss.truth_motion = 0.1
    config.batch_size = 4
    config.optimizer.learning_rate = 1e-4
    config.optimizer.steps = 200
    config.optimizer.warmup_steps = 20
    config.optimizer.ema_decay = 0.0
    config.log.every = 20
    config.log.images_every = 100
    config.checkpoint.every = 100
    config.health.restarts = 2
    return config
