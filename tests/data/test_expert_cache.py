"""The cache of expert features: what it returns, going on after a kill, and refusing what does not belong to it."""

import dataclasses
import json
import pathlib
import resource

import numpy as np
import pytest

from robustdepth.data import expert_cache
from robustdepth.data.expert_cache import describe_cache, open_cache, write_cache
from robustdepth.data.images import BadImage
from robustdepth.data.source import ViewSource, build_source
from robustdepth.errors import UserError
from tests.recordings import DRIVE, config_for, truncate, write_kitti_raw

STRIDE, CHANNELS = 10, 5  # a stride that does not divide the 32x96 images: the map rounds up
COUNT, BATCH, SHARD = 11, 3, 4  # shards of 4, 4 and 3 examples, none of whole batches


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(expert_cache, "SHARD", SHARD)


@pytest.fixture
def source(tmp_path) -> ViewSource:
    return open_source(tmp_path / "drive")


def open_source(root, count: int = COUNT) -> ViewSource:
    write_kitti_raw(root, numbers=range(count), sides="l", suffix=".jpg")
    return build_source(config_for("kitti_raw", root))


@pytest.fixture
def meta(source, tmp_path):
    weights = tmp_path / "expert.pth"
    weights.write_bytes(b"weights")
    return describe_cache("espnetv2", weights, source, (32, 96), STRIDE, CHANNELS)


def features_of(images: np.ndarray) -> np.ndarray:
    """Stands for an expert: different for every image, of both signs and many magnitudes, float32."""
    means = images.astype(np.float32).mean(axis=(1, 2, 3))
    ramp = np.geomspace(1e-3, 1e3, 4 * 10 * CHANNELS, dtype=np.float32).reshape(4, 10, CHANNELS)
    return (means[:, None, None, None] - 40) / 40 * ramp


def expected(source, indices) -> np.ndarray:
    return features_of(np.stack([source[index].target for index in indices]))


def test_features_come_back_in_half_precision(source, meta, tmp_path):
    batches = []

    def compute(images):
        batches.append(images.shape)
        return features_of(images)

    said = write_cache(tmp_path / "cache", source, compute, meta, BATCH)
    assert f"features of {COUNT} images" in said
    assert set(batches) == {(BATCH, 32, 96, 3)}  # one shape: compiled once

    cache = open_cache(tmp_path / "cache", meta)
    indices = [7, 0, 10, 3, 3]
    features = cache.read(indices)
    assert (features.shape, features.dtype) == ((5, 4, 10, CHANNELS), np.float32)
    wanted = expected(source, indices)
    assert (np.abs(features - wanted) <= 2.0**-11 * np.abs(wanted) + 2.0**-25).all()  # half: 11 bits, smallest 2^-24
    assert len({features[i].tobytes() for i in range(4)}) == 4
    np.testing.assert_array_equal(features, cache.read(np.asarray(indices, np.int32)))
    for index in (-1, COUNT):
        with pytest.raises(IndexError, match=f"{index} of {COUNT}"):
            cache.read([index])


def test_the_description_beside_the_shards_says_what_they_hold(source, meta, tmp_path):
    write_cache(tmp_path / "cache", source, features_of, meta, BATCH)
    assert json.loads((tmp_path / "cache" / "cache.json").read_text()) == {
        "expert": "espnetv2",
        "weights": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
        "image_size": [32, 96],
        "stride": STRIDE,
        "shape": [4, 10, CHANNELS],
        "examples": COUNT,
        "source": meta.source,
    }


@pytest.mark.parametrize("batches", [0, 1, 2, 3, 4])
def test_a_killed_run_goes_on_and_ends_like_an_uninterrupted_one(source, meta, tmp_path, batches):
    calls = []

    def compute(images):
        if len(calls) == batches:
            raise KeyboardInterrupt
        calls.append(images)
        return features_of(images)

    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    write_cache(whole, source, features_of, meta, BATCH)
    with pytest.raises(KeyboardInterrupt):
        write_cache(resumed, source, compute, meta, BATCH)
    with pytest.raises(UserError, match=r"not finished: run .* again"):
        open_cache(resumed, meta)
    finished = {path: path.stat().st_mtime_ns for path in resumed.glob("*.array_record")}
    assert len(finished) == batches // 2  # two batches a shard

    for path in whole.glob("*.array_record"):  # what a process leaves that has no time to tidy up
        (resumed / path.with_suffix(".part").name).write_bytes(path.read_bytes()[:200])
    write_cache(resumed, source, features_of, meta, BATCH)
    assert finished.items() <= {path: path.stat().st_mtime_ns for path in resumed.iterdir()}.items()
    for path in whole.glob("*.array_record"):
        assert path.read_bytes() == (resumed / path.name).read_bytes()
    assert "nothing to do" in write_cache(resumed, source, compute, meta, BATCH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(expert="world"), r"\(expert is espnetv2, not world\)"),
        (dict(weights="0" * 64), r"\(weights is \w{20}, not 0{20}\)"),
        (dict(image_size=(64, 96)), r"\(image_size is \[32, 96\], not \[64, 96\]\)"),
        (dict(stride=16), r"\(stride is 10, not 16\)"),
        (dict(shape=(4, 10, 6)), r"\(shape is \[4, 10, 5\], not \[4, 10, 6\]\)"),
        (dict(examples=COUNT + 1), r"\(examples is 11, not 12\)"),
        (dict(source="0" * 64), r"\(source is \w{20}, not 0{20}\)"),
    ],
)
def test_another_cache_is_refused(source, meta, tmp_path, change, message):
    write_cache(tmp_path / "cache", source, features_of, meta, BATCH)
    other = dataclasses.replace(meta, **change)
    with pytest.raises(UserError, match=rf"cache holds other expert features {message}; set semantics\.cache"):
        open_cache(tmp_path / "cache", other)
    with pytest.raises(UserError, match=rf"{message}; choose another folder, or delete this one\.$"):
        write_cache(tmp_path / "cache", source, features_of, other, BATCH)


def test_the_description_tells_weights_and_targets_apart(source, meta, tmp_path):
    weights = tmp_path / "expert.pth"
    assert describe_cache("espnetv2", weights, source, (32, 96), STRIDE, CHANNELS) == meta
    shorter = open_source(tmp_path / "shorter", COUNT - 1)
    assert describe_cache("espnetv2", weights, shorter, (32, 96), STRIDE, CHANNELS).source != meta.source
    source.views.reverse()
    assert describe_cache("espnetv2", weights, source, (32, 96), STRIDE, CHANNELS).source != meta.source
    weights.write_bytes(b"Weights")
    assert describe_cache("espnetv2", weights, source, (32, 96), STRIDE, CHANNELS).weights != meta.weights
    with pytest.raises(UserError, match=r"missing\.pth cannot be read \(No such file"):
        describe_cache("espnetv2", tmp_path / "missing.pth", source, (32, 96), STRIDE, CHANNELS)


def last_shard(folder: pathlib.Path) -> pathlib.Path:
    return folder / "features-00002-of-00003.array_record"


def test_damaged_caches_are_refused(source, meta, tmp_path):
    folder = tmp_path / "cache"
    with pytest.raises(UserError, match=r"no expert features in .*cache"):
        open_cache(folder, meta)
    write_cache(folder, source, features_of, meta, BATCH)
    content = last_shard(folder).read_bytes()
    for damaged in (b"", content[:100], content[: len(content) // 2], content[:-1]):
        last_shard(folder).write_bytes(damaged)
        with pytest.raises(UserError, match=r"00002-of-00003\.array_record is damaged or truncated: delete it"):
            open_cache(folder, meta)
    last_shard(folder).write_bytes((folder / "features-00000-of-00003.array_record").read_bytes())
    with pytest.raises(UserError, match="damaged"):  # 4 examples in place of 3
        open_cache(folder, meta)

    last_shard(folder).unlink()
    write_cache(folder, source, features_of, meta, BATCH)
    np.testing.assert_array_equal(open_cache(folder, meta).read([10]), expected(source, [10]).astype(np.float16))
    for text in ("", "[]", "{}", '{"expert": '):
        (folder / "cache.json").write_text(text)
        with pytest.raises(UserError, match=r"cache\.json is damaged"):
            open_cache(folder, meta)


def test_a_changed_byte_is_noticed_when_it_is_read(source, meta, tmp_path):
    write_cache(tmp_path / "cache", source, features_of, meta, BATCH)
    shard = last_shard(tmp_path / "cache")
    content = bytearray(shard.read_bytes())
    content[300] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"00002-of-00003\.array_record is damaged"):
        open_cache(tmp_path / "cache", meta).read(range(8, COUNT))


def test_an_unreadable_image_gets_no_features_and_too_many_are_an_error(source, meta, tmp_path, monkeypatch):
    truncate(next((tmp_path / "drive" / DRIVE).glob("image_02/data/0000000005.jpg")))
    bad = []
    for index in range(COUNT):
        try:
            source[index]
        except BadImage:
            bad.append(index)
    assert bad
    write_cache(tmp_path / "cache", source, features_of, meta, BATCH)
    cache = open_cache(tmp_path / "cache", meta)
    good = [index for index in range(COUNT) if index not in bad]
    np.testing.assert_array_equal(cache.read(good), expected(source, good).astype(np.float16))
    with pytest.raises(UserError, match=f"no features of example {bad[0]}, whose image could not be read"):
        cache.read([0, bad[0]])
    monkeypatch.setattr(expert_cache, "MAX_BAD_IMAGES", len(bad) - 1)
    with pytest.raises(UserError, match=f"more than {len(bad) - 1} images cannot be read, the last: "):
        write_cache(tmp_path / "other", source, features_of, meta, BATCH)


def test_features_that_half_precision_cannot_hold_are_refused(source, meta, tmp_path):
    with pytest.raises(UserError, match=r"'espnetv2' are not finite in half precision, from example 0 on"):
        write_cache(tmp_path / "cache", source, lambda images: 1e3 * features_of(images), meta, BATCH)
    with pytest.raises(ValueError, match=r"shape \(3, 4, 10, 4\), not \(3, 4, 10, 5\)"):
        write_cache(tmp_path / "cache", source, lambda images: features_of(images)[..., 1:], meta, BATCH)


def test_a_folder_that_cannot_be_written_is_named(source, meta, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write expert features into .*/file/cache \(Not a directory\)"):
        write_cache(tmp_path / "file" / "cache", source, features_of, meta, BATCH)


def test_a_full_disk_is_one_sentence_and_the_run_can_go_on(source, meta, tmp_path):
    """The limit on the size of files stands for a full disk: writing fails in the middle of a shard."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*\.part \(.*File too large.*\): make room") as error:
            write_cache(tmp_path / "cache", source, features_of, meta, BATCH)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value)
    write_cache(tmp_path / "cache", source, features_of, meta, BATCH)
    features = open_cache(tmp_path / "cache", meta).read(range(COUNT))
    np.testing.assert_array_equal(features, expected(source, range(COUNT)).astype(np.float16))
