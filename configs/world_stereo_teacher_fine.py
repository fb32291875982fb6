r"""The second stage of the stereo teacher: larger images, and cameras that are less alike, for real pairs.

    python -m robustdepth.train --config=configs/world_stereo_teacher_fine.py --workdir=runs/stereo_fine \
        --config.stereo.pretrained=runs/stereo
    python -m robustdepth.export --checkpoint=runs/stereo_fine --output=stereo.safetensors

It continues the network of world_stereo_teacher.py, whose answers are blurred on pairs four times as wide as those of
its training.
"""

from configs import world_stereo_teacher


def get_config():
    config = world_stereo_teacher.get_config()
    config.name = "world_stereo_teacher_fine"
    config.image_size = (192, 640)
    config.batch_size = 2
    config.stereo.exposure = 0.2
    config.stereo.noise = 0.04
    config.optimizer.learning_rate = 5e-4
    config.optimizer.steps = 1_000
    return config
