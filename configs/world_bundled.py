"""The depth network that comes with the package: all methods but stereo distillation, on the procedural world alone.

    python -m robustdepth.train --config=configs/world_bundled.py --workdir=runs/bundled
    python -m robustdepth.export --checkpoint=runs/bundled --output=robustdepth/weights/robustdepth_world.safetensors

It trains on stereo pairs of the world, with second views of changed texture and under weather, and the semantic expert.
robustdepth/weights/README.md is its model card.
"""

from configs import world_structure


def get_config():
    config = world_structure.get_config("full")
    config.name = "world_bundled"
    config.data.grey = 0.3  # so that it knows grey footage as well
    config.data.jitter = (0.4, 0.4, 0.4, 0.1)
    config.loss.weather_photometric = 1.0
    config.loss.weather_consistency = 0.1
    config.optimizer.steps = 3_000
    return config
