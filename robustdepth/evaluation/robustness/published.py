"""The row of the published benchmark that corruption errors are set against."""

# DEE of monodepth2 (ResNet-18, monocular, 640x192) on KITTI-C as RoboDepth published it, and on clean images.
PUBLISHED_NAME = "monodepth2 R18 (published, KITTI-C only)"
PUBLISHED_DEE = {
    "brightness": 0.130, "dark": 0.280, "fog": 0.155, "frost": 0.277, "snow": 0.511, "contrast": 0.187,
    "defocus": 0.244, "glass": 0.242, "motion": 0.216, "zoom": 0.201, "elastic": 0.129, "color_quant": 0.193,
    "gaussian": 0.384, "impulse": 0.389, "shot": 0.340, "iso": 0.388, "pixelate": 0.145, "jpeg": 0.196,
}  # fmt: skip
PUBLISHED_CLEAN_DEE = 0.119
