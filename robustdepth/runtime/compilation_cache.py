"""Compiled programs are kept on disk, so that a run that starts again need not compile them anew."""

import os

from robustdepth.paths import home_cache

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def keep_compiled() -> None:
    """Tells JAX, which must not have been imported yet, where to keep what took longer than a second to compile.

    `JAX_COMPILATION_CACHE_DIR` says where; else robustdepth/xla in the user's cache folder. Set and empty, nothing is
    kept; nor where there is no folder to write in.
    """
    if VARIABLE in os.environ:
        return
    if folder := home_cache("xla"):
        os.environ[VARIABLE] = str(folder)
