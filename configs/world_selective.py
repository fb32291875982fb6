"""Selective distillation of stereo knowledge on the procedural world, and the rows of its ablation (METHOD.md 7).

    python -m robustdepth.train --config=configs/world_selective.py --workdir=runs/selective
    python -m robustdepth.train --config=configs/world_selective.py:sgm_learned --workdir=runs/sgm
    python -m robustdepth.ablate --family=configs/world_selective.py --alignment=none --output=runs/selective_rows

Measured in docs/results.md over three seeds of 500 steps, proxies of semi-global matching: AbsRel in metres 1% below
base with argmin masks, 1% above it with learned ones, 3% without masks, and 6% with true depth as the proxy ("truth").

The stereo teacher is the network that comes with the package, trained by world_stereo_teacher.py. What follows the
colon is a row of ROWS; without it the learned masks are trained, with Teacher-Student features.
"""

from configs import world_quickstart

NAIVE = {"loss.proxy": 0.1, "selective.mask": "off"}
ARGMIN = NAIVE | {"selective.mask": "argmin"}
LEARNED = NAIVE | {"selective.mask": "learned", "model.mask_decoder": "loss", "loss.mask": 1.0}
INDEPENDENT = LEARNED | {"selective.mask": "independent"}
FEATURE = {"loss.transfer_feature": 0.1}
SGM = {"selective.proxy": "sgm"}
ROWS = {
    "base": {},
    "naive": NAIVE,
    "argmin": ARGMIN,
    "learned": LEARNED,
    "independent": INDEPENDENT,
    "concatenated": LEARNED | {"model.mask_decoder": "concatenated"},
    "full": LEARNED | FEATURE,
    "distribution": LEARNED | FEATURE | {"loss.transfer_distribution": 0.05},
    "sgm_naive": NAIVE | SGM,
    "sgm_argmin": ARGMIN | SGM,
    "sgm_learned": LEARNED | SGM,
    "sgm_independent": INDEPENDENT | SGM,
    "sgm_full": LEARNED | FEATURE | SGM,
    "truth": NAIVE | {"selective.proxy": "truth"},
}


def get_config(row="full"):
    config = world_quickstart.get_config()
    config.name = "world_selective" if row == "full" else f"world_selective_{row}"
    config.optimizer.steps = 2_000
    config.update_from_flattened_dict(ROWS[row])
    return config
