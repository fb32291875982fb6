"""Who trusts the better of two depths: counts over the pixels of images whose truth is known, and a picture of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from robustdepth.errors import UserError
from robustdepth.evaluation.protocols import PROTOCOLS, valid_pixels
from robustdepth.types import Array

WORLD = PROTOCOLS["world"]  # its valid depth and its clipping; no alignment: both depths are metric
CLEAR = 0.05  # errors relative to truth that differ by more are clearly different
TRUSTS_PROXY, TRUSTS_OWN = (250, 150, 40), (40, 110, 220)  # RGB
Plane = Float[np.ndarray, "height width"]
Flags = Bool[np.ndarray, "height width"]


class Choice(NamedTuple):
    """Both depths in metres and who takes which, one image (or a batch of them, with one axis more)."""

    proxy: Array
    own: Array
    known: Array  # where there is a proxy
    mask: Array  # where the config's masks take the proxy
    argmin: Array  # where the smaller photometric error does


@dataclasses.dataclass(frozen=True)
class Scores:
    """Counts of pixels over all images; errors are means over images, as in the other protocols."""

    pixels: int  # that count: truth in range and a proxy known
    clear: int  # of them, where both errors clearly differ
    right: dict[str, int]  # of the clear ones, where the better depth was taken, by chooser
    taken: int  # of the pixels that count, where the masks take the proxy
    known: float  # share of pixels with truth in range that have a proxy
    abs_rel: dict[str, float]  # over the pixels that count

    @property
    def metrics(self) -> dict[str, float | None]:
        """What the report says; shares are None where no pixel counts."""

        def share(part: int, whole: int) -> float | None:
            return part / whole if whole else None

        return {
            **{f"right_{name}": share(count, self.clear) for name, count in self.right.items()},
            "clear": share(self.clear, self.pixels),
            "mask_proxy": share(self.taken, self.pixels),
            "proxy_known": self.known,
            **{f"abs_rel_{name}": value for name, value in self.abs_rel.items()},
        }


class Counts(NamedTuple):
    """`Scores` of one image, before division."""

    pixels: int
    clear: int
    right: dict[str, int]
    taken: int
    in_range: int
    abs_rel: dict[str, float]  # empty where no pixel counts


def relative_errors(truth: Plane, valid: Flags, choice: Choice) -> tuple[Plane, Plane]:
    """|D - truth| / truth of proxy and own depth, both clipped as in protocol `world`; 0 where truth does not count."""
    safe = np.where(valid, truth, 1.0)
    proxy, own = (np.abs(np.clip(depth, *WORLD.clip) - safe) / safe for depth in (choice.proxy, choice.own))
    return np.where(valid, proxy, 0.0), np.where(valid, own, 0.0)


def count_choices(truth: Plane, choice: Choice) -> Counts:
    """Who takes the better depth in one image.

    Args:
      truth: metres; counts within the range of protocol `world`.
      choice: of one image.
    """
    valid = valid_pixels(WORLD, truth)
    error_proxy, error_own = relative_errors(truth, valid, choice)
    counts = valid & choice.known
    better = error_proxy < error_own
    clear = counts & (np.abs(error_proxy - error_own) > CLEAR)
    choosers = {"mask": choice.mask, "argmin": choice.argmin, "always_proxy": choice.known}
    errors = {"proxy": error_proxy, "own": error_own}
    errors |= {name: np.where(choosers[name], error_proxy, error_own) for name in ("mask", "argmin")}
    errors["best"] = np.minimum(error_proxy, error_own)
    return Counts(
        pixels=int(counts.sum()),
        clear=int(clear.sum()),
        right={name: int((clear & (taken == better)).sum()) for name, taken in choosers.items()},
        taken=int((counts & choice.mask).sum()),
        in_range=int(valid.sum()),
        abs_rel={name: float(error[counts].mean()) for name, error in errors.items()} if counts.any() else {},
    )


def merge_counts(rows: Sequence[Counts]) -> Scores:
    """Counts are added, errors are averaged over the images that have a proxy anywhere.

    Raises:
      UserError: no image has one.
    """
    errors = [row.abs_rel for row in rows if row.abs_rel]
    if not errors:
        raise UserError("the stereo method knows no proxy at any pixel of the evaluation worlds: train its teacher.")
    pixels = sum(row.pixels for row in rows)
    return Scores(
        pixels=pixels,
        clear=sum(row.clear for row in rows),
        right={name: sum(row.right[name] for row in rows) for name in rows[0].right},
        taken=sum(row.taken for row in rows),
        known=pixels / sum(row.in_range for row in rows),
        abs_rel={name: float(np.mean([error[name] for error in errors])) for name in errors[0]},
    )


def draw_row(
    image: UInt8[np.ndarray, "height width 3"], truth: Plane, choice: Choice
) -> UInt8[np.ndarray, "height row_width 3"]:
    """Image, proxy, own depth, the truly better source and the chosen one, side by side.

    Depth is shown as inverse depth on one scale (bright is near), unknown proxies black. Sources: orange the proxy,
    blue own depth; black no proxy or no truth; the better one is dim where the errors hardly differ.
    """
    valid = valid_pixels(WORLD, truth)
    error_proxy, error_own = relative_errors(truth, valid, choice)
    nearest = float(np.percentile(1 / truth, 98))
    shown = [_inverse(depth, nearest) for depth in (choice.proxy, choice.own)]
    shown[0] = np.where(choice.known[..., None], shown[0], 0)
    better, chosen = (_sources(takes_proxy) for takes_proxy in (error_proxy < error_own, choice.mask))
    clear = np.abs(error_proxy - error_own) > CLEAR
    better = np.where(clear[..., None], better, better // 3)
    sources = [np.where((valid & choice.known)[..., None], layer, 0) for layer in (better, chosen)]
    return np.concatenate([image, *shown, *sources], axis=1).astype(np.uint8)


def _sources(takes_proxy: Flags) -> np.ndarray:
    return np.where(takes_proxy[..., None], np.array(TRUSTS_PROXY), np.array(TRUSTS_OWN))


def _inverse(depth: Plane, nearest: float) -> UInt8[np.ndarray, "height width 3"]:
    grey = np.round(255 * np.clip(1 / depth / nearest, 0, 1)).astype(np.uint8)
    return cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA)[..., ::-1]
