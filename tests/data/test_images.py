"""Images: decoding, resizing with half-pixel centres, and what is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from robustdepth.data.images import BadImage, image_size, list_images, read_image
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


def test_sixteen_bits_and_wrong_size_are_refused(tmp_path):
    write_image(tmp_path / "depth.png", np.full((8, 8), 1000, np.uint16))
    with pytest.raises(BadImage, match="8 bits"):
        read_image(tmp_path / "depth.png")
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
    for name in ("frame_10.png", "frame_9.JPG", "frame_1.jpeg", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["frame_1.jpeg", "frame_9.JPG", "frame_10.png"]
    assert list_images(tmp_path / "nowhere") == []


def test_pictures_are_turned_upright_as_their_camera_asks(tmp_path):
    image = picture(3)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left
    Image.fromarray(np.rot90(image)).save(tmp_path / "turned.png", exif=exif)
    assert image_size(tmp_path / "turned.png") == image.shape[:2]
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), image)
