r"""Both papers at once on KITTI raw: the structure-centric method with selectively distilled stereo knowledge.

    python -m robustdepth.train --config=configs/kitti_structure_selective_resnet50.py --workdir=DIR \
        --config.data.root=KITTI --config.data.split=train_files.txt --config.model.pretrained=resnet50.pth \
        --config.semantics.weights=dinov2-small/model.safetensors --config.selective.teacher=runs/teacher

Temporal views join the stereo one, so that the moving world is seen at more than one time.
"""

from configs import kitti_selective_resnet50, kitti_structure_resnet18


def get_config():
    config = kitti_selective_resnet50.get_config()
    structure = kitti_structure_resnet18.get_config()
    config.name = "kitti_structure_selective_resnet50"
    config.data.views = ("previous", "next", "stereo")
    config.semantics = structure.semantics
    for term in ("texture_photometric", "texture_consistency", "semantics_edge", "semantics_node", "semantics_anchor"):
        config.loss[term] = structure.loss[term]
    return config
