"""The first thing to run on frames of your own, some minutes long: it shows whether camera.json and footage fit.

    python -m robustdepth.train --config=configs/overfit_clip.py --workdir=runs/overfit --config.data.root=MY_CLIP

A short form of adapt.py. The photometric loss must fall, and WORKDIR/result.png must show the street; alarms say when
depth collapses or motion runs away. docs/own_footage.md says what to do then.
"""

from configs import adapt


def get_config():
    config = adapt.get_config()
    config.name = "overfit_clip"
    config.optimizer.steps = 50
    config.optimizer.warmup_steps = 10
    config.log.every = 10
    config.log.images_every = 50
    config.checkpoint.every = 50
    return config
