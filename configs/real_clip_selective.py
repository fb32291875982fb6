r"""The recipe of real_clip.py on stereo pairs, with the procedural world's stereo teacher: for two CPU cores.

    python -m robustdepth.train --config=configs/real_clip_selective.py --workdir=runs/real_selective \
        --config.data.root=KITTI_ODOMETRY --config.data.sequences="('06','91')"

The teacher has never seen footage; the masks say where it may teach. Measured in docs/results.md after 1,000 steps, on
LiDAR frames of other drives.
"""

from configs import real_clip, world_selective


def get_config():
    config = real_clip.get_config()
    config.name = "real_clip_selective"
    config.data.views = ("stereo",)
    config.update_from_flattened_dict(world_selective.ROWS["learned"])
    return config
