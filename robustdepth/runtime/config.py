"""Experiment configs: checked against what the code understands, and kept in the workdir as JSON."""

import importlib
import json
import pathlib
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from robustdepth.conditions.spec import parse as parse_conditions
from robustdepth.data.source import world_count
from robustdepth.errors import UserError, nearest
from robustdepth.methods.method import METHODS
from robustdepth.models.build import build_networks
from robustdepth.paths import expand_home
from robustdepth.runtime.changes import CHANGEABLE
from robustdepth.runtime.choices import NO_PROTOCOL, choices
from robustdepth.runtime.experiments import provide_configs
from robustdepth.runtime.files import replacing
from robustdepth.runtime.length import check_length
from robustdepth.runtime.loss_checks import check_second_views, check_start, check_stereo, check_weights
from robustdepth.runtime.schema import check_sections, check_values, flatten
from robustdepth.switches import uses_truth
from robustdepth.types import STEREO, TEMPORAL

CONFIG_FILE = "config.json"
# Where older configs keep what has moved since: their key, and today's.
MOVED = {
    "loss.ssim_share": "reprojection.ssim_share",
    "loss.auto_mask": "reprojection.auto_mask",
    "loss.min_reprojection": "reprojection.min_reprojection",
    "loss.smooth_edges": "reprojection.smooth_edges",
    "loss.bidirectional": "second_view.bidirectional",
}
# What may differ when a run goes on: it changes how the run is watched or fed, never what is computed.
FREE = ("log", "checkpoint", "validate", "health", "data.root", "data.threads", "data.max_bad_images")


def check(config: ConfigDict) -> None:
    """Refuses a config that cannot be run.

    Raises:
      UserError: one sentence that names the key, its value, and what would be right.
    """
    base = _base()
    check_sections(config, base.get_config())
    check_values(config, _defaults(config), base.RANGES)
    for key, allowed in choices().items():
        value = lookup(config, key)
        if value not in allowed:
            raise UserError(f'config.{key}="{value}" is unknown; {nearest(str(value), map(str, allowed))}')
    parse_conditions(config.weather.spec)
    check_sharding(config.sharding)
    check_statistics(config)
    height, width = config.image_size
    if height % 16 or width % 16:
        raise UserError(
            f"config.image_size={height}x{width}: height and width must be multiples of 16; "
            f"the nearest are {max(16, round(height / 16) * 16)}x{max(16, round(width / 16) * 16)}."
        )
    check_data(config)
    if not config.model.min_depth < config.model.initial_depth < config.model.max_depth:
        raise UserError(
            f"config.model: min_depth={config.model.min_depth} < initial_depth={config.model.initial_depth} "
            f"< max_depth={config.model.max_depth} must hold."
        )
    check_weights(config, base.get_config())
    check_second_views(config)
    check_stereo(config)
    check_start(config)
    check_length(config)
    if config.validate.protocol != NO_PROTOCOL and config.task != "depth":
        raise UserError(
            f'config.validate.protocol="{config.validate.protocol}" judges depth, and config.task="{config.task}" '
            f'learns none: set it to "{NO_PROTOCOL}", and follow the run with robustdepth.evaluate --watch.'
        )
    for name in ("graph_entropy", "mask_proxy"):
        low, high = config.health[name]
        if not low < high:
            raise UserError(f"config.health.{name}={(low, high)}: the first number must be below the second.")
    if len(set(config.optimizer.drops)) != len(config.optimizer.drops):
        raise UserError(f"config.optimizer.drops={config.optimizer.drops}: name each fraction once.")
    build_networks(config)


def check_data(config: ConfigDict) -> None:
    """Refuses views that are none, and a world's share that there is nothing for."""
    views = tuple(config.data.views)
    if len(set(views)) != len(views) or not (views or uses_truth(config)):
        raise UserError(f"config.data.views={views}: name at least one source view, each once.")
    if uses_truth(config) and not config.data.world_share:
        raise UserError(
            "config.loss.truth, truth_shape, truth_gradient and truth_motion need the procedural world, since "
            "recordings have no true depth: give config.data.world_share a value, or set these weights to 0."
        )
    for view in views:
        if view not in (*TEMPORAL, STEREO):
            raise UserError(f'config.data.views has "{view}"; {nearest(view, (*TEMPORAL, STEREO))}')
    share = config.data.world_share
    if config.data.name == "none" and share != 1.0:
        raise UserError(
            'config.data.name="none" has no recordings: set config.data.world_share=1.0 or name a data set.'
        )
    rendered = world_count(config)
    if 0 < share < 1 and rendered in (0, config.batch_size):
        raise UserError(
            f"config.data.world_share={share} of config.batch_size={config.batch_size} is {rendered} samples: give "
            f"both kinds at least one, with a share from {1 / config.batch_size:.3g} to "
            f"{1 - 1 / config.batch_size:.3g}, or raise the batch size."
        )
    if config.data.name != "none" and not config.data.root:
        raise UserError(f'config.data.name="{config.data.name}" needs --config.data.root=FOLDER.')


def check_sharding(sharding: ConfigDict) -> None:
    """Refuses rules that are not (regular expression, partition spec), and specs of other axes than the mesh has."""
    for rule in sharding.rules:
        try:
            pattern, spec = rule
            re.compile(pattern)
        except (ValueError, TypeError, re.error):
            raise UserError(
                f'config.sharding.rules has {rule!r}: a rule is (regular expression, spec), such as (".*", ()).'
            ) from None
        if spec != "longest" and not isinstance(spec, tuple):
            raise UserError(f'config.sharding.rules has {rule!r}: its spec must be a tuple, or "longest".')
        if isinstance(spec, tuple) and (
            any(name not in (None, sharding.axis) for name in spec) or spec.count(sharding.axis) > 1
        ):
            raise UserError(
                f"config.sharding.rules has {rule!r}: its spec may hold None, and once the devices' axis, "
                f'config.sharding.axis="{sharding.axis}".'
            )


def check_statistics(config: ConfigDict) -> None:
    """Refuses statistics of each device's rows where these are not a fair share of the batch."""
    if config.sharding.statistics == "batch":
        return
    key = 'config.sharding.statistics="device"'
    if config.optimizer.accumulate > 1:
        raise UserError(f'{key} has no parts in turns: set config.optimizer.accumulate=1, or statistics="batch".')
    if 0 < config.data.world_share < 1:
        raise UserError(
            f"{key} with config.data.world_share={config.data.world_share} would leave some devices only recordings, "
            'others only the world: set config.data.world_share to 0.0 or 1.0, or statistics="batch".'
        )


def at_home(config: ConfigDict) -> ConfigDict:
    """The config with ~ replaced where a text, such as data.root, begins with it. Raises UserError without a home."""
    paths = {key: value for key, value in flatten(config).items() if isinstance(value, str) and value.startswith("~")}
    found = config.copy_and_resolve_references()
    found.update_from_flattened_dict({key: expand_home(value) for key, value in paths.items()})
    return found


def _defaults(config: ConfigDict) -> ConfigDict:
    """Every option with its default: of configs/base.py, and weights in `config` of methods from other packages."""
    defaults = _base().get_config()
    losses = {name for method in METHODS.values() for name in method.losses}
    others = {name for name in losses if name in config.loss and name not in defaults.loss}
    defaults.loss.update(dict.fromkeys(others, 0.0))
    return defaults


def defaults() -> ConfigDict:
    """Every option with its default."""
    return _base().get_config()


def _base() -> ModuleType:
    """The file that holds every option with its default; it lies beside the experiments."""
    provide_configs()
    return importlib.import_module("configs.base")


def lookup(config: ConfigDict, key: str) -> Any:
    """The value at a dotted key."""
    for part in key.split("."):
        config = config[part]
    return config


def write(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Keeps the resolved config in the workdir."""
    with replacing(workdir / CONFIG_FILE) as path:
        path.write_text(json.dumps(config.to_dict(), indent=1) + "\n")


def read(workdir: pathlib.Path) -> ConfigDict:
    """The config a workdir was trained with; JSON's lists come back as tuples.

    Raises:
      UserError: no config there, or not readable.
    """
    path = workdir / CONFIG_FILE
    try:
        return from_json(path.read_text())
    except FileNotFoundError:
        raise UserError(f"no {CONFIG_FILE} in {workdir}: this is not a training workdir or exported model.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): mend this, or train into a new workdir.") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # no JSON, or not a config's
        raise UserError(f"{path} is damaged ({error}); restore it, or train into a new workdir.") from None


def from_json(text: str) -> ConfigDict:
    """A config written as JSON by this version or an older one; lists come back as tuples."""
    return ConfigDict(upgrade(_tuples(json.loads(text))))


def upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """The nested values of a config, with those that an older version kept elsewhere where they are now."""
    for old, new in MOVED.items():
        (old_section, old_name), (section, name) = old.split("."), new.split(".")
        if old_name in values.get(old_section, {}):
            values.setdefault(section, {}).setdefault(name, values[old_section].pop(old_name))
    return values


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def differences(config: ConfigDict, workdir: pathlib.Path, free: Sequence[str] = FREE) -> list[str]:
    """The keys, with both values, in which a config is another experiment than the one that a workdir belongs to.

    A key that the workdir's version did not have counts as its default; keys and sections in `free` may differ.
    """
    old, new, defaults = flatten(read(workdir)), flatten(config), flatten(_defaults(config))
    return [
        f"{key} ({old.get(key)!r} there, {new.get(key)!r} now)"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, defaults.get(key)) != new.get(key)
        and not any(key == name or key.startswith(name + ".") for name in free)
    ]


def check_same(config: ConfigDict, workdir: pathlib.Path, accepted: Sequence[str] = ()) -> None:
    """Refuses to go on in a workdir that belongs to another experiment; the keys in `accepted` may differ.

    Raises:
      UserError: names the keys that differ, with both values.
    """
    differ = differences(config, workdir, (*FREE, *accepted))
    if differ:
        names = {text.partition(" ")[0] for text in differ}
        wanted = ",".join(sorted(names | {*accepted} & {*CHANGEABLE}))
        change = f"; or let this run change with --change={wanted}" if names <= {*CHANGEABLE} else ""
        raise UserError(
            f"{workdir} belongs to another experiment: {'; '.join(differ[:4])}"
            f"{f' and {len(differ) - 4} more' if len(differ) > 4 else ''}. Give the values from there to go on, or use "
            f"another --workdir, which --config.init_from={workdir} starts from these networks{change}."
        )
