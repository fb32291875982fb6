r"""The standard stereo recipe on KITTI raw: metric depth from the rig's baseline, no pose network.

    python -m robustdepth.train --config=configs/kitti_stereo_resnet18.py --workdir=DIR \
        --config.data.root=KITTI --config.data.split=train_files.txt --config.model.pretrained=resnet18.pth

45,200 examples (eigen_full) / 12 x 20 epochs = 75,333 steps; other batches as kitti_mono_resnet18.py says.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "kitti_stereo_resnet18"
    config.data.name = "kitti_raw"
    config.data.views = ("stereo",)
    config.optimizer.steps, config.optimizer.epochs = 0, 20.0
    config.optimizer.rate_batch = 12
    return config
