"""What every exported format costs and how far its own runtime is from the network: python -m benchmarks.export.

Goal: at most 1e-3 relative difference of inverse depth, on every pixel of the frames.
"""

import argparse
import pathlib
import tempfile

from benchmarks.results import markdown, record
from robustdepth.prediction.export import export_model, largest_difference, load_images
from robustdepth.prediction.portable import FORMATS
from robustdepth.runtime.bundle import read_model, write_bundle
from robustdepth.runtime.inference import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="bundled")
    parser.add_argument("--frames", default="", help="folder of images; without it rendered streets")
    parser.add_argument("--output", help="JSON file for docs/results")
    parser.add_argument(
        "--command", default="", help="to record in the place of this one, without folders of a machine"
    )
    options = parser.parse_args()
    model = load_model(options.checkpoint)
    images = load_images(model, 4, options.frames)
    table = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        size = write_bundle(read_model(options.checkpoint), folder / "model.safetensors")
        found = load_model(folder / "model.safetensors").inverse_depth(images)
        table.append(row("safetensors", "any", size, largest_difference(found, model, images), "robustdepth"))
        for name, form in FORMATS.items():
            path = folder / f"model{form.suffix}"
            about = export_model(model, path, name, 0, options.frames)
            runtime = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
            batch = "any" if form.any_batch else "1"
            table.append(row(name, batch, path.stat().st_size, about["largest_relative_difference"], runtime))
            print(table[-1], flush=True)
    print(markdown(table))
    if options.output:
        title = f"The network `{options.checkpoint}` in every format that `robustdepth export` writes"
        note = (
            "* Largest difference of inverse depth from the network, over all pixels of four frames (for LiteRT one).\n"
            "* Goal: 1e-3. Met.\n"
            "* The bundled network is stored in half precision already, so its safetensors file changes nothing. The "
            "file of a training has kernels rounded by up to 5e-4, and is not held to the goal."
        )
        record(options.output, title, table, note, options.command)


def row(name: str, batch: str, size: int, difference: float, runtime: str) -> dict:
    return {
        "format": name,
        "images a call": batch,
        "MB": round(size / 1e6, 2),
        "largest relative difference": f"{difference:.1e}",
        "difference in millionths": round(difference * 1e6, 2),
        "written and read with": runtime,
    }


if __name__ == "__main__":
    main()
