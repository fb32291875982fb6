r"""A few small recordings in KITTI's layout, with the procedural world as half of every batch; on two CPU cores.

    python -m robustdepth.train --config=configs/real_clip.py --workdir=runs/real \
        --config.data.root=KITTI_ODOMETRY --config.data.sequences="('00','06','91')"

Sequences with one camera and with two may be mixed: a sample uses the views it has. The world's and the rig's baselines
make depth metric. Set --config.data.name=kitti_raw for raw drives, and --config.data.grey=0 for footage in colour; with
an accelerator train the encoder too, and on more pixels: --config.model.freeze_encoder=False and
--config.image_size="(192, 640)".

Measured on sequences 00, 06 and 91, docs/results.md: AbsRel 0.444 without scaling on LiDAR frames of other drives, 66%
below the better trivial baseline, in 28 minutes.
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = "real_clip"
    config.image_size = (64, 208)
    config.batch_size = 8
    config.data.name = "kitti_odometry"
    config.data.views = ("previous", "next", "stereo")
    config.data.world_share = 0.5
    config.data.grey = 1.0  # the footage is grey, and colour must not tell the world from it
    config.model.encoder = "efficientnet_lite0"
    config.model.pretrained = "package"
    config.model.freeze_encoder = True
    config.model.pose_encoder = "resnet_tiny"
    config.model.decoder_width = 0.25
    config.model.output_stride = 2
    config.model.pose_scale = 0.1
    config.model.scales = 2  # each further scale costs as much of the loss again
    config.optimizer.learning_rate = 2e-3
    config.optimizer.steps = 4_500
    config.optimizer.warmup_steps = 100
    config.optimizer.drops = (0.75, 0.92)
    config.log.every = 50
    config.log.images_every = 500
    config.checkpoint.every = 500
    return config
