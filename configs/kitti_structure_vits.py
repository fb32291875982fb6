r"""The structure-centric method with a transformer as the student: DINOv2 ViT-S and a DPT decoder.

    python -m robustdepth.train --config=configs/kitti_structure_vits.py --workdir=DIR \
        --config.data.root=KITTI --config.data.split=train_files.txt \
        --config.model.pretrained=dinov2-small/model.safetensors \
        --config.semantics.weights=segformer-b0/model.safetensors

The expert is SegFormer-B0 trained on Cityscapes: a student that starts from DINOv2 has nothing to learn from it.
"""

from configs import kitti_structure_resnet18


def get_config():
    config = kitti_structure_resnet18.get_config()
    config.name = "kitti_structure_vits"
    config.model.encoder = "dinov2_vits14"
    config.semantics.expert = "segformer_b0"
    config.optimizer.learning_rate = 5e-5
    config.optimizer.warmup_steps = 1_000
    return config
