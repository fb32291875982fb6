"""What a config's losses need: weights that count, views to learn from, a teacher that is there."""

from ml_collections import ConfigDict

from robustdepth.errors import UserError
from robustdepth.methods.objective import terms_of
from robustdepth.methods.semantics import graph_for
from robustdepth.switches import SECOND_VIEWS, SEMANTIC_TERMS, uses, uses_proxy, uses_start, uses_transfer, uses_view
from robustdepth.types import STEREO, TEMPORAL


def check_weights(config: ConfigDict, defaults: ConfigDict) -> None:
    """Refuses a depth training without any weight, and weights that nothing computes a loss for."""
    if config.task != "depth":
        return
    computed, views = terms_of(config), tuple(config.data.views)
    if not uses(config, *computed):
        raise UserError("config.loss has no weight, so nothing would be learned: give one to photometric, or to truth.")
    for name, weight in config.loss.items():
        if weight and name not in computed and weight != defaults.loss.get(name):
            needs = "config.loss.proxy has none" if name == "mask" else 'no method of config.task="depth" computes it'
            raise UserError(f"config.loss.{name}={weight} has no effect, since {needs}: set it to 0.")
    if uses(config, "velocity") and not set(views) & set(TEMPORAL):
        raise UserError(f"config.loss.velocity judges motion in time, but config.data.views={views} has no such view.")


def check_start(config: ConfigDict) -> None:
    """Refuses to keep what starting networks know where there are none, or no recording to keep their depth on."""
    loaded = config.init_from or config.model.pretrained or (config.task == "stereo" and config.stereo.pretrained)
    if config.model.freeze_statistics and not loaded:
        raise UserError(
            "config.model.freeze_statistics keeps the statistics of networks that were loaded, and none are: name them "
            "in config.init_from, or set it to False."
        )
    if not uses_start(config):
        return
    if not config.init_from:
        raise UserError(
            "config.loss.start keeps depth near that of the networks that training starts from: name them in "
            "config.init_from, or set config.loss.start=0."
        )
    if config.data.world_share == 1:
        raise UserError(
            "config.loss.start keeps depth on recordings, and config.data.world_share=1 leaves none of them in a "
            "batch: name a data set, or set config.loss.start=0."
        )


def check_second_views(config: ConfigDict) -> None:
    """Refuses options of the texture view and of the semantic expert that leave nothing to do, or nothing to read."""
    texture, semantics = config.texture, config.semantics
    if not config.data.views and (
        uses(config, "photometric", "smoothness") or any(uses_view(config, v) for v in SECOND_VIEWS)
    ):
        raise UserError(
            "config.data.views=(), but a loss rebuilds the target from its source views: name one, or set "
            "config.loss.photometric, smoothness and the weights of texture and weather to 0."
        )
    if not set(semantics.views) <= {"clean", "perturbed"} or not semantics.views:
        raise UserError(f'config.semantics.views={semantics.views}: name "clean", "perturbed" or both.')
    if uses_view(config, "texture") and not (texture.missing or texture.interfering or texture.jitter):
        raise UserError(
            "config.texture switches missing, interfering and jitter all off, but a texture loss has a weight: give "
            "one of them a probability, or set config.loss.texture_photometric and texture_consistency to 0."
        )
    if not uses(config, *SEMANTIC_TERMS):
        return
    has_second = uses_view(config, "texture") or uses_view(config, "weather")
    if tuple(semantics.views) == ("perturbed",) and not has_second:
        raise UserError(
            'config.semantics.views=("perturbed",), but no texture or weather loss asks for a perturbed view: add '
            '"clean", or give config.loss.texture_photometric a weight.'
        )
    graph_for(semantics, expert_channels=1)
    finest = 4 if config.model.output_stride <= 4 else config.model.output_stride
    if semantics.stride < finest:
        raise UserError(f"config.semantics.stride={semantics.stride} is none of the decoder's strides: use 16, 8 or 4.")
    if any(length % semantics.stride for length in config.image_size):
        height, width = config.image_size
        raise UserError(f"config.semantics.stride={semantics.stride} does not divide the image size {height}x{width}.")
    if semantics.cache and config.data.world_share:
        raise UserError(
            "config.semantics.cache holds features of recordings; the world's share of the batch has none there: set "
            'config.data.world_share=0, or config.semantics.cache="".'
        )


def check_stereo(config: ConfigDict) -> None:
    """Refuses a stereo teacher, or selective distillation, without what it needs."""
    selective, loss, mask_decoder = config.selective, config.loss, config.model.mask_decoder
    if config.stereo.max_disparity % 16 or config.stereo.max_disparity < 0:
        raise UserError(f"config.stereo.max_disparity={config.stereo.max_disparity} must be a multiple of 16, or 0.")
    if not (uses_proxy(config) or uses_transfer(config)):
        return
    if STEREO not in config.data.views:
        raise UserError(
            "selective distillation (config.loss.proxy, transfer_feature or transfer_distribution) needs pairs: add "
            f'"stereo" to config.data.views={tuple(config.data.views)}.'
        )
    if not uses_proxy(config):
        return  # the network's features alone teach, without a proxy and its masks
    if selective.proxy == "files" and not selective.folder:
        raise UserError(
            'config.selective.proxy="files" needs config.selective.folder: `python -m robustdepth.prepare proxies` '
            "fills one."
        )
    if selective.proxy == "files" and config.data.world_share:
        raise UserError(
            'config.selective.proxy="files" are proxies of recordings; the world\'s share of the batch has none: set '
            'config.data.world_share=0, or config.selective.proxy="stereo_net" or "sgm".'
        )
    if selective.proxy == "truth" and config.data.world_share != 1:
        raise UserError(
            'config.selective.proxy="truth" is the depth of the procedural world, recordings have none: set '
            'config.data.world_share=1, or config.selective.proxy="stereo_net" or "sgm".'
        )
    if selective.mask in ("learned", "independent") and (mask_decoder == "none" or not loss.mask):
        raise UserError(
            f'config.selective.mask="{selective.mask}" needs config.model.mask_decoder="loss" and a weight in '
            "config.loss.mask."
        )
    if selective.mask == "independent" and mask_decoder == "concatenated":
        raise UserError(
            'config.selective.mask="independent" goes with config.model.mask_decoder="loss": the masks that the depth '
            'decoder would see with "concatenated" are one of two.'
        )
    if not 0 < selective.temperature[1] <= selective.temperature[0]:
        raise UserError(f"config.selective.temperature={selective.temperature} must fall, and stay above 0.")
