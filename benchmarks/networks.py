"""What a depth network costs: python -m benchmarks.networks [--images=1] [--network=NAME ...] [--output=FILE].

For the bundled network and those that others published, at the size of their files: parameters, multiply-adds of an
image in the program, and the time of one call on random weights, also as a multiple of the bundled network's. All are
timed in turns.
"""

import argparse

import jax
import jax.numpy as jnp

from benchmarks.results import markdown, record
from benchmarks.turns import median_seconds
from configs import base, world_bundled
from robustdepth.models.build import build_depth_net

LITE_MONO = {"normalisation": "monodepth2", "scales": 3}
NETWORKS = {
    "monodepth2, ResNet-18": ((192, 640), {"encoder": "resnet18", "normalisation": "monodepth2"}),
    "monodepth2, ResNet-18, large": ((320, 1024), {"encoder": "resnet18", "normalisation": "monodepth2"}),
    "monodepth2, ResNet-50": ((192, 640), {"encoder": "resnet50", "normalisation": "monodepth2"}),
    "Lite-Mono tiny": ((192, 640), LITE_MONO | {"encoder": "lite_mono_tiny"}),
    "Lite-Mono small": ((192, 640), LITE_MONO | {"encoder": "lite_mono_small"}),
    "Lite-Mono": ((192, 640), LITE_MONO | {"encoder": "lite_mono"}),
    "Lite-Mono 8M": ((192, 640), LITE_MONO | {"encoder": "lite_mono_8m"}),
    "MonoViT": ((192, 640), {"encoder": "monovit", "normalisation": "monodepth2"}),
    "Depth Anything V2 Small": ((592, 592), {"encoder": "depth_anything_v2_small", "scales": 1}),
    "Depth Anything V2 Base": ((592, 592), {"encoder": "depth_anything_v2_base", "scales": 1}),
}  # name: image size and config.model; Depth Anything sees 14/16 of these sizes, 518x518


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 1), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--network", action="append", choices=NETWORKS, help="beside the bundled one; default: all")
    parser.add_argument("--output", help="JSON file for docs/results")
    options = parser.parse_args()
    bundled = world_bundled.get_config()
    programs = {"bundled": program(bundled.image_size, bundled.model, options.images)}
    for name in options.network or NETWORKS:
        size, changes = NETWORKS[name]
        config = base.get_config()
        config.model.update(changes)
        programs[name] = program(size, config.model, options.images)
    seconds = median_seconds({name: run for name, (run, _) in programs.items()}, options.repeats)
    table = [
        {
            "network": name,
            **facts,
            "ms an image": round(1e3 * seconds[name] / options.images, 1),
            "times bundled": round(seconds[name] / seconds["bundled"], 1),
        }
        for name, (_, facts) in programs.items()
    ]
    print(markdown(table))
    if options.output:
        record(options.output, f"What depth networks cost, {options.images} image(s) a call", table)


def program(size: tuple[int, int], model, images: int):
    """A function that predicts once, and what is known without running it."""
    net = build_depth_net(model)
    image = jnp.full((images, *size, 3), 0.5)
    variables = jax.jit(net.init, static_argnums=2)(jax.random.key(0), image[:1], False)
    predict = jax.jit(lambda v, x: net.apply(v, x, train=False).disparities[0])
    flops = predict.lower(variables, image).cost_analysis()["flops"] / images
    facts = {
        "size": f"{size[0]}x{size[1]}",
        "million parameters": round(sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) / 1e6, 1),
        "GFLOPs": round(flops / 1e9, 1),
    }
    return lambda: jax.block_until_ready(predict(variables, image)), facts


if __name__ == "__main__":
    main()
