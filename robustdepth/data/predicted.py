"""How the files of a prediction run are called, which `robustdepth.predict` writes and `robustdepth.evaluate` reads."""

SUMMARY = "predictions.json"  # with the "scale" of the depth, beside all files of a run
DEPTH, COLOR, SIDE = "_depth", "_color", "_side"  # what their names end with, after the name of the picture
PNG_FACTOR = 256  # 16-bit PNG values per unit of depth, as in KITTI's depth maps
PNG_FACTOR_KEY = "values_per_unit"  # text of a PNG whose values per unit of depth may be others
