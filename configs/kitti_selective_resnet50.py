r"""kitti_selective_resnet18.py with ResNet-50 and Teacher-Student features: the stereo network looks at every batch.

    python -m robustdepth.train --config=configs/kitti_selective_resnet50.py --workdir=DIR \
        --config.data.root=KITTI --config.data.split=train_files.txt --config.model.pretrained=resnet50.pth \
        --config.selective.teacher=runs/teacher

At 1024x320: --config.image_size="(320, 1024)". The teacher is made by kitti_stereo_teacher.py. Without it
the stereo network that comes with the package teaches.
"""

from configs import kitti_selective_resnet18


def get_config():
    config = kitti_selective_resnet18.get_config()
    config.name = "kitti_selective_resnet50"
    config.model.encoder = "resnet50"
    config.loss.transfer_feature = 0.1
    config.selective.proxy = "stereo_net"
    return config
