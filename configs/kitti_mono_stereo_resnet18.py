r"""The standard recipe with both kinds of source view on KITTI raw: metric depth, and a pose network for motion.

    python -m robustdepth.train --config=configs/kitti_mono_stereo_resnet18.py --workdir=DIR \
        --config.data.root=KITTI --config.data.split=train_files.txt --config.model.pretrained=resnet18.pth
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "kitti_mono_stereo_resnet18"
    config.data.name = "kitti_raw"
    config.data.views = ("previous", "next", "stereo")
    config.optimizer.steps, config.optimizer.epochs = 0, 20.0
    config.optimizer.rate_batch = 12
    return config
