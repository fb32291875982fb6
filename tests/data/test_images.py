"""Images: decoding, resizing with half-pixel centres, and what is refused."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from robustdepth.data.benchmarks.listed import images_below
from robustdepth.data.images import (
    BadImage,
    find_image,
    folders_below,
    image_size,
    list_images,
    numbered_images,
    read_image,
    resize_image,
)
from robustdepth.errors import UserError
from robustdepth.prediction.pictures import as_picture
from robustdepth.runtime.inference import DepthModel
from tests.recordings import picture, truncate, write_image


def ramp(width: int, height: int = 64) -> np.ndarray:
    """Red is the column plus 10, green the row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 10 + np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    return image


@pytest.mark.parametrize(("name", "size", "tolerance"), [("a.png", (16, 60), 0.6), ("a.jpg", (16, 60), 2.0)])
@pytest.mark.parametrize("width", [240, 239])  # 239 is no multiple of the blocks that a JPEG is decoded in
def test_resized_pixels_sit_at_half_pixel_centres(tmp_path, name, size, width, tolerance):
    write_image(tmp_path / name, ramp(width))
    image = read_image(tmp_path / name, size).astype(float)
    column = (np.arange(size[1]) + 0.5) * width / size[1] - 0.5
    row = (np.arange(size[0]) + 0.5) * 64 / size[0] - 0.5
    inner = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(image[..., 0][inner], np.broadcast_to(10 + column, size)[inner], atol=tolerance)
    np.testing.assert_allclose(image[..., 1][inner], np.broadcast_to(row[:, None], size)[inner], atol=tolerance)


def test_shrinking_averages_instead_of_skipping(tmp_path):
    stripes = np.zeros((32, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    write_image(tmp_path / "a.png", stripes)
    np.testing.assert_allclose(read_image(tmp_path / "a.png", (8, 16)).astype(float), 100, atol=12)


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = picture(1)[..., 0]
    write_image(tmp_path / "a.png", grey)
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=-1))
    assert read_image(tmp_path / "a.png", (16, 32)).shape == (16, 32, 3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_truncated_image_names_its_path(tmp_path, name):
    write_image(tmp_path / name, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    truncate(tmp_path / name)
    with pytest.raises(BadImage, match=name):
        read_image(tmp_path / name, (32, 32))


def test_missing_empty_and_foreign_files(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    for name in ("missing.png", "empty.png", "text.jpg"):
        with pytest.raises(BadImage, match=name):
            read_image(tmp_path / name)
        with pytest.raises(BadImage, match=name):
            image_size(tmp_path / name)


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])  # above our limit, and above both of Pillow's
def test_decompression_bomb_is_refused_before_decoding(tmp_path, side):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(BadImage, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png", (32, 32))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_sixteen_bits_the_upper_eight_count(tmp_path, name, channels):
    values = np.array([[0, 300, 32_767, 65_535]] * 8, np.uint16)
    path = tmp_path / (name if channels == 3 else name.replace("ppm", "pgm"))
    assert cv2.imwrite(str(path), values if channels == 1 else np.dstack([values] * 3))
    expected = np.repeat((values / 65_535 * 255)[..., None], 3, axis=-1)
    np.testing.assert_allclose(read_image(path).astype(float), expected, atol=1)
    assert read_image(path, (4, 4)).max() == 255


def test_an_opened_image_gives_the_pixels_of_its_file(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.linspace(0, 65_535, 32 * 48).astype(np.uint16).reshape(32, 48)
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(picture(3)).save(tmp_path / "turned.png", exif=exif)
    for name in ("deep.png", "turned.png"):
        with Image.open(tmp_path / name) as image:
            np.testing.assert_array_equal(as_picture(image)[0], read_image(tmp_path / name))
    with pytest.raises(UserError, match="must have 8 or 16 bits"):
        as_picture(Image.fromarray(np.ones((8, 8), np.float32)))


def test_other_depths_and_wrong_size_are_refused(tmp_path):
    for dtype in (np.int32, np.float32):
        Image.fromarray(np.full((8, 8), 1000, dtype)).save(tmp_path / "depth.tif")
        with pytest.raises(BadImage, match="must have 8 or 16 bits"):
            read_image(tmp_path / "depth.tif")
    write_image(tmp_path / "a.png", picture(0))
    with pytest.raises(BadImage, match="160x48 pixels, but its camera is for 320x96"):
        read_image(tmp_path / "a.png", (32, 96), full_size=(96, 320))


def test_image_from_bytes_carries_the_given_name():
    with pytest.raises(BadImage, match="record 7"):
        read_image(io.BytesIO(b"nothing"), name="record 7")
    stream = io.BytesIO()
    Image.fromarray(picture(0)).save(stream, "PNG")
    np.testing.assert_array_equal(read_image(io.BytesIO(stream.getvalue())), picture(0))


def test_natural_order(tmp_path):
    for name in ("frame_10.png", "frame_9.JPG", "frame_1.jpeg", "notes.txt", "²1.png"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["frame_1.jpeg", "frame_9.JPG", "frame_10.png", "²1.png"]
    assert list_images(tmp_path / "nowhere") == []


def test_times_in_names_are_ordered_as_numbers(tmp_path):
    for name in ("1305031102.175304.png", "1305031102.2.png", "1305031101.9.png"):
        (tmp_path / name).touch()
    assert [path.stem for path in list_images(tmp_path)] == ["1305031101.9", "1305031102.175304", "1305031102.2"]


def test_every_reader_knows_the_same_images(tmp_path):
    image = picture(0)
    names = ("0.PNG", "1.webp", "2.bmp", "3.pgm", "4.ppm", "5.TIFF", "6.JPG", "7.jpeg")
    for name in names:
        write_image(tmp_path / name, image[..., 0] if name.endswith("pgm") else image)
    for name in ("._0.PNG", ".hidden.png", "Thumbs.db", "desktop.ini", "8.heic"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "9.png").mkdir()
    found = [path.name for path in list_images(tmp_path)]
    assert found == list(names)
    assert [numbered_images(tmp_path)[i].name for i in range(8)] == found
    assert [find_image(tmp_path, str(i)).name for i in range(8)] == found
    assert [path.name for path in images_below(tmp_path).values()] == found
    for name in names[:6]:
        expected = image if name != "3.pgm" else image[..., :1]
        atol = 12 if name == "1.webp" else 0  # Pillow's default loses some
        difference = np.abs(read_image(tmp_path / name).astype(int) - expected)
        assert difference.max() <= atol, name


def test_of_one_image_in_two_formats_the_lossless_one_is_read(tmp_path, caplog):
    for name in ("f_1.jpg", "f_1.png", "f_2.jpg"):
        write_image(tmp_path / name, picture(0))
    assert [path.name for path in list_images(tmp_path)] == ["f_1.png", "f_2.jpg"]
    assert "1 images in several formats: f_1.png is read, f_1.jpg is not" in caplog.text


def test_a_link_to_nowhere_is_told_and_a_pipe_is_no_file(tmp_path):
    write_image(tmp_path / "elsewhere" / "a.png", picture(0))
    (tmp_path / "0.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "1.png").symlink_to(tmp_path / "elsewhere" / "gone.png")
    (tmp_path / "2.png").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "3.png")
    assert [path.name for path in list_images(tmp_path)] == ["0.png", "1.png"]
    with pytest.raises(BadImage, match=r"1\.png"):
        read_image(tmp_path / "1.png")


def test_folders_are_found_through_links_and_circles_end(tmp_path):
    for name in ("footage/b", "elsewhere/deep", "footage/.hidden"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "footage" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "footage")
    root = tmp_path / "footage"
    assert [path.relative_to(root).as_posix() for path in folders_below(root)] == [".", "a", "a/deep", "b"]


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("shape", [(375, 1242, 3), (375, 1242)])
def test_training_and_prediction_prepare_the_same_pixels(tmp_path, name, shape):
    """Training reads at the network's size, prediction and evaluation resize what they read at full size."""
    write_image(tmp_path / name, np.random.default_rng(0).integers(0, 255, shape, np.uint8))
    at_once = read_image(tmp_path / name, (96, 320))
    np.testing.assert_array_equal(at_once, resize_image(read_image(tmp_path / name), (96, 320)))
    config = ConfigDict({"image_size": (96, 320), "data": {"grey": 0.0}})
    prepared = DepthModel(config, {}, 0, "").prepare(read_image(tmp_path / name))
    np.testing.assert_array_equal(np.round(prepared * 255).astype(np.uint8), at_once)


def test_pictures_are_turned_upright_as_their_camera_asks(tmp_path):
    image = picture(3)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left
    Image.fromarray(np.rot90(image)).save(tmp_path / "turned.png", exif=exif)
    assert image_size(tmp_path / "turned.png") == image.shape[:2]
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), image)


def test_only_the_named_formats_are_read_whatever_a_file_is_called(tmp_path):
    """Pillow would start Ghostscript for PostScript, and wait for a pipe's other end."""
    (tmp_path / "post.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    Image.fromarray(picture(0)).save(tmp_path / "still.gif")
    os.mkfifo(tmp_path / "pipe.png")
    for name, sentence in (("post.png", "no PNG, JPEG"), ("still.gif", "no PNG, JPEG"), ("pipe.png", "is no file")):
        for read in (read_image, image_size):
            with pytest.raises(BadImage, match=rf"{name}: it .*{sentence}"):
                read(tmp_path / name)


def test_of_several_pictures_in_a_file_none_is_taken_for_the_image(tmp_path):
    first, *others = (Image.fromarray(picture(seed)) for seed in range(3))
    for name in ("a.webp", "a.png", "a.tif"):
        first.save(tmp_path / name, save_all=True, append_images=others)
        with pytest.raises(BadImage, match=rf"{name}: it holds 3 pictures, but an image is one"):
            read_image(tmp_path / name)
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=others[:1], quality=95)
    np.testing.assert_allclose(read_image(tmp_path / "phone.jpg").astype(int), picture(0), atol=12)


@pytest.mark.filterwarnings("error")
def test_transparency_in_a_palette_is_left_aside(tmp_path):
    image = Image.fromarray(picture(0)).quantize(16)
    image.save(tmp_path / "a.png", transparency=bytes(range(16)))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


def test_of_two_images_by_one_number_every_reader_takes_the_same(tmp_path, caplog):
    for name, seed in (("0000000003.png", 3), ("3.png", 4)):
        write_image(tmp_path / name, picture(seed))
    assert numbered_images(tmp_path) == {3: find_image(tmp_path, "0000000003")}
    assert "0000000003.png and 3.png in" in caplog.text
