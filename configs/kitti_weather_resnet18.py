r"""The standard monocular recipe on KITTI raw, with a weather view beside every clear one.

    python -m robustdepth.train --config=configs/kitti_weather_resnet18.py --workdir=DIR \
        --config.data.root=KITTI --config.data.split=train_files.txt --config.model.pretrained=resnet18.pth

The depth network and the photometric loss are computed for the weather view as well, so a step takes about twice as
long as in kitti_mono_resnet18.py. The `weather` section names the conditions. The benchmark's corruptions are never
seen.
"""

from configs import kitti_mono_resnet18


def get_config():
    config = kitti_mono_resnet18.get_config()
    config.name = "kitti_weather_resnet18"
    config.loss.weather_photometric = 1.0
    config.loss.weather_consistency = 0.1
    config.weather.spec = "fog|rain|snow|night|dawn|dusk|rain+night|motion_blur(0.2-0.8)|lens_drops|glare"
    return config
