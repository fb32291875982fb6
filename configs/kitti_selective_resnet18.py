r"""Selective distillation of stereo knowledge on KITTI raw: the standard stereo recipe with a teacher's proxies.

    python -m robustdepth.prepare proxies --data=kitti_raw --source=KITTI --output=PROXIES --method=sgm
    python -m robustdepth.train --config=configs/kitti_selective_resnet18.py --workdir=DIR \
        --config.data.root=KITTI --config.data.split=train_files.txt --config.model.pretrained=resnet18.pth \
        --config.selective.folder=PROXIES

Proxies may come from a stereo network as well: --method=runs/teacher, see kitti_stereo_teacher.py.
"""

from configs import kitti_stereo_resnet18


def get_config():
    config = kitti_stereo_resnet18.get_config()
    config.name = "kitti_selective_resnet18"
    config.model.mask_decoder = "loss"
    config.loss.proxy = 0.1
    config.loss.mask = 1.0
    config.selective.proxy = "files"
    return config
