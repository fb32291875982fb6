"""What pyproject.toml cannot say: the wheel carries the experiments, configs/, inside the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["robustdepth*"]), "robustdepth.configs"],
    package_dir={"robustdepth.configs": "configs"},
)
