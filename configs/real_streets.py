r"""Depth from real video: the bundled networks go on with recordings of streets, half of every batch the world's truth.

    python -m robustdepth.train --config=configs/real_streets.py --workdir=runs/streets \
        --config.data.root=KITTI_RAW --config.data.sequences="('0005','0095')"

Neighbouring frames and, where a recording has a second camera, the stereo view teach by photometry; a sample uses the
views it has. The world's true depth keeps metres, outlines and sky.
"""

from configs import adapt


def get_config():
    config = adapt.get_config()
    config.name = "real_streets"
    config.batch_size = 8
    config.data.name = "kitti_raw"
    config.data.views = ("previous", "next", "stereo")
    config.data.world_share = 0.5
    config.data.camera_effects = 0.5
    config.model.freeze_statistics = False
    config.loss.start = 0.0
    config.loss.truth = 0.2
    config.loss.truth_shape = 0.1
    config.loss.truth_gradient = 0.1
    config.optimizer.learning_rate = 3e-4
    config.optimizer.steps = 2_000
    config.optimizer.warmup_steps = 50
    config.optimizer.ema_decay = 0.995
    config.log.images_every = 500
    return config
