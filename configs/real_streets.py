r"""Depth from real video: the bundled networks go on with recordings of streets, half of every batch the world's truth.

    python -m robustdepth.train --config=configs/real_streets.py --workdir=runs/streets \
        --config.data.root=KITTI_RAW --config.data.sequences="('0005','0095')"
    python -m robustdepth.train --config=configs/real_streets.py:structure --workdir=runs/structure ...

Neighbouring frames and, where a recording has a second camera, the stereo view teach by photometry; a sample uses the
views it has. The world's true depth keeps metres, outlines and sky.

What follows the colon is a row of ROWS: one paper's method, a part of it, or both papers'. Proxies are semi-global
matching's, for recordings with a second camera. `python -m robustdepth.ablate` compares rows.
"""

from configs import adapt, world_selective, world_structure

STRUCTURE = world_structure.ROWS["full"]
SELECTIVE = world_selective.ROWS["sgm_learned"]
ROWS = {
    "base": {},
    "texture": world_structure.ROWS["texture"],
    "semantics": world_structure.ROWS["semantics"],
    "structure": STRUCTURE,
    "naive": world_selective.ROWS["sgm_naive"],
    "argmin": world_selective.ROWS["sgm_argmin"],
    "selective": SELECTIVE,
    "concatenated": SELECTIVE | {"model.mask_decoder": "concatenated"},
    "teacher_student": world_selective.ROWS["sgm_full"],
    "both": STRUCTURE | SELECTIVE,
}


def get_config(row="base"):
    config = adapt.get_config()
    config.name = "real_streets" if row == "base" else f"real_streets_{row}"
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
    config.update_from_flattened_dict(ROWS[row])
    return config
