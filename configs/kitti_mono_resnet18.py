r"""The standard monocular recipe on KITTI raw: ResNet-18, 640x192, batch 12, 20 epochs of the Zhou split.

    python -m robustdepth.train --config=configs/kitti_mono_resnet18.py --workdir=DIR \
        --config.data.root=KITTI --config.data.split=train_files.txt --config.model.pretrained=resnet18.pth

39,810 examples / 12 x 20 epochs = 66,350 steps; the rate drops after 15 of the 20 epochs. 8 devices do not divide 12:
--config.batch_size=96 makes 20 epochs as well, 8,294 steps at 2.83 times the rate, which nobody has tried yet.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "kitti_mono_resnet18"
    config.data.name = "kitti_raw"
    config.data.views = ("previous", "next")
    config.optimizer.steps, config.optimizer.epochs = 0, 20.0
    config.optimizer.rate_batch = 12
    return config
