r"""The structure-centric method on KITTI raw: the standard monocular recipe with both parts of the paper.

    python -m robustdepth.train --config=configs/kitti_structure_resnet18.py --workdir=DIR \
        --config.data.root=KITTI --config.data.split=train_files.txt --config.model.pretrained=resnet18.pth \
        --config.semantics.weights=dinov2-small/model.safetensors

The expert is DINOv2 ViT-S. With --config.semantics.cache=FOLDER its features are computed once per image, before the
first step, instead of in every step: 370 kB an image. Another backbone is one option,
--config.model.encoder=resnet50 or efficientnet_lite0, with its weights.
"""

from configs import kitti_mono_resnet18


def get_config():
    config = kitti_mono_resnet18.get_config()
    config.name = "kitti_structure_resnet18"
    config.loss.texture_photometric = 1.0
    config.loss.texture_consistency = 0.1
    config.loss.semantics_edge = "0:0.05:2000"
    config.loss.semantics_node = "0:0.05:2000"
    config.loss.semantics_anchor = "0:0.025:2000"
    config.semantics.expert = "dinov2_vits14"
    return config
