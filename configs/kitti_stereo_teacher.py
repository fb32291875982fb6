r"""The stereo teacher from KITTI raw's pairs alone, without LiDAR: GwcNet-G on an accelerator.

    python -m robustdepth.train --config=configs/kitti_stereo_teacher.py --workdir=DIR \
        --config.data.root=KITTI --config.data.split=train_files.txt

Each view is rebuilt from the other; semi-global matching, run on the host's cores while batches are made, gives hints
where it explains the target better than the network does, and smoothness fills what only one camera sees. With
--config.selective.proxy=files --config.selective.folder=FOLDER the hints are read instead of computed in every epoch.
GwcNet's published weights are a better start: --config.stereo.pretrained=FILE.ckpt.

45,200 examples (eigen_full) / 8 x 10 epochs = 56,500 steps. Another batch makes as many epochs, with the rate scaled.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "kitti_stereo_teacher"
    config.task = "stereo"
    config.image_size = (320, 1024)  # the features' stride is 4: thin objects need the width
    config.batch_size = 8
    config.data.name = "kitti_raw"
    config.data.views = ("stereo",)
    config.data.flip = False  # the left camera has to stand left
    config.data.threads = 16
    config.loss.hints = 0.1  # they pull out of wrong minima, and leave the last tenths of a pixel to the images
    config.loss.smoothness = 1e-3
    config.selective.proxy = "sgm"
    config.stereo.network = "gwcnet_g"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.steps, config.optimizer.epochs = 0, 10.0
    config.optimizer.rate_batch = 8
    config.optimizer.warmup_steps = 500
    config.optimizer.drops = (0.6, 0.75, 0.9)
    config.optimizer.drop_factor = 0.5
    return config
