"""A network as a folder in Hugging Face's form: config.json, model.safetensors, and a model card with measured numbers.

`robustdepth.load` reads such a folder; `huggingface_hub` uploads and downloads it.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import robustdepth
from robustdepth.data.text import read_text
from robustdepth.errors import UserError
from robustdepth.runtime.bundle import HUB_CONFIG, HUB_WEIGHTS, read_model, write_bundle
from robustdepth.runtime.checkpoint import Weights
from robustdepth.runtime.files import replacing
from robustdepth.runtime.inference import load_model

CARD = "README.md"
COLUMNS = ("abs_rel", "rmse", "delta1")


def write_folder(checkpoint: str, folder: pathlib.Path, report: str = "") -> str:
    """Writes the folder and reads it back.

    Args:
      checkpoint: a network, as for `robustdepth.load`.
      folder: where to write; files of other names that lie there stay.
      report: a report.json that `robustdepth.evaluate` wrote of this network; its numbers become the card's table.

    Returns:
      What was written, in sentences.

    Raises:
      UserError: no depth network, a report that cannot be read, no space. Nothing is written then.
    """
    model, weights = load_model(checkpoint), read_model(checkpoint)
    text = {
        "architectures": ["robustdepth"],
        "model_type": "robustdepth",
        "robustdepth_version": robustdepth.__version__,
    }
    config = {**text, "step": weights.step, "scale": model.scale, "config": weights.config.to_dict()}
    card = model_card(folder.name, weights, model.scale, _read_report(report) if report else {})
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            replacing(folder / HUB_WEIGHTS) as tensors,
            replacing(folder / HUB_CONFIG) as settings,
            replacing(folder / CARD) as page,
        ):
            size = write_bundle(weights, tensors)
            settings.write_text(json.dumps(config, indent=1) + "\n")
            page.write_text(card)
    except (OSError, UserError) as error:
        if new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot write in {folder} ({error.strerror}): give another --output.") from error
    return f"{folder}: {size / 1e6:.2f} MB, {load_model(folder)!r}"


def model_card(name: str, weights: Weights, scale: str, protocols: dict[str, Any]) -> str:
    """The card as Markdown, with Hugging Face's front matter."""
    height, width = weights.config.image_size
    unit = "metres" if scale == "metric" else "relative units, right up to one factor"
    lines = [
        "---",
        "library_name: robustdepth",
        "pipeline_tag: depth-estimation",
        "tags: [depth-estimation, monocular-depth, jax, flax]",
        "---",
        f"# {name}",
        "",
        f"A monocular depth network of robustdepth, experiment `{weights.config.name}` at step {weights.step}: "
        f"{weights.config.model.encoder}, images of {height}x{width} pixels, depth in {unit}.",
        "",
        "```python",
        "import huggingface_hub, robustdepth",
        "",
        f'folder = huggingface_hub.snapshot_download("OWNER/{name}")  # or a folder on disk',
        'prediction = robustdepth.load(folder)("photo.jpg")',
        "```",
        "",
        "## Measured",
        "",
        *_table(protocols),
        "",
    ]
    return "\n".join(lines)


def _table(protocols: dict[str, Any]) -> list[str]:
    if not protocols:
        return ["Nothing yet: `robustdepth export --format=huggingface --report=report.json` fills this table."]
    rows = [f"| protocol | images | alignment | {' | '.join(COLUMNS)} | better trivial baseline, abs_rel |"]
    rows.append("|---|---|---|" + "---|" * (len(COLUMNS) + 1))
    for name, entry in protocols.items():
        values = " | ".join(f"{entry['metrics'][column]:.3f}" for column in COLUMNS)
        trivial = min(row["abs_rel"] for row in entry["baselines"].values())
        rows.append(f"| {name} | {entry['count']} | {entry['alignment']} | {values} | {trivial:.3f} |")
    return rows


def _read_report(path: str) -> dict[str, Any]:
    """The protocols of depth in a report.json. Raises UserError where it is none."""
    try:
        found = json.loads(read_text(pathlib.Path(path)))["protocols"]
        depth = {name: entry for name, entry in found.items() if "abs_rel" in entry.get("metrics", {})}
        _table(depth)  # says here what is missing
        return depth
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"--report={path} is no report.json of an evaluation of depth ({error}).") from error
