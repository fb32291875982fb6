"""The quickstart trained under weather as well, to be compared with the quickstart; on two CPU cores.

python -m robustdepth.train --config=configs/world_weather.py --workdir=runs/weather

Measured in docs/results.md after 1,000 steps each: AbsRel 0.201 on clear worlds, 0.214 without weather;
under corruptions that neither saw, mCE 84 with the network without weather as the baseline.
"""

from configs import world_quickstart


def get_config():
    config = world_quickstart.get_config()
    config.name = "world_weather"
    config.loss.weather_photometric = 1.0
    config.loss.weather_consistency = 0.1
    return config
