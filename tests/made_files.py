"""Made inputs for tests: whole small files of every kind, and strategies that change them."""

import io
import os
import pathlib
import struct
from collections.abc import Callable

import cv2
import numpy as np
import safetensors.numpy
import scipy.io
from hypothesis import strategies as st
from PIL import Image

from tests.recordings import SIZE, picture, projection, row

SMALL = picture(0, (12, 20))
EXTREMES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
NUMBERS = ("nan", "-inf", "-1", "1e400", "1e-320", "0", "9" * 400, "9" * 5000)
WORDS = (*NUMBERS, "", "null", "[" * 20_000, "²", "\ufeff", "%")


@st.composite
def mutated(draw, whole: bytes) -> bytes:
    """A few bytes or numbers of a file changed, cut off, left out or repeated, mostly near its start."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, draw(st.sampled_from((32, 200, len(data)))))) % (len(data) + 1)
        length = draw(st.integers(0, 40))
        match draw(st.sampled_from(("byte", "number", "number", "cut", "leave out", "repeat", "insert"))):
            case "byte":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "number":
                form = draw(st.sampled_from(("<I", ">I", "<H", ">H")))
                number = draw(st.sampled_from(EXTREMES)) % 256 ** struct.calcsize(form)
                data[at : at + struct.calcsize(form)] = struct.pack(form, number)
            case "cut":
                del data[at:]
            case "leave out":
                del data[at : at + length]
            case "repeat":
                data[at:at] = data[at : at + length]
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
    return bytes(data)


@st.composite
def reworded(draw, whole: str) -> bytes:
    """Words, numbers and lines of a text exchanged, left out or repeated; then perhaps mutated."""
    words = whole.replace("\n", " \n ").split(" ")
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(words) - 1))
        match draw(st.sampled_from(("word", "text", "leave out", "repeat", "swap"))):
            case "word":
                words[at] = draw(st.sampled_from(WORDS))
            case "text":
                words[at] = draw(st.text(max_size=6))
            case "leave out" if len(words) > 1:
                del words[at]
            case "repeat":
                words[at:at] = words[at : at + draw(st.integers(1, 9))]
            case "swap":
                words[at], words[0] = words[0], words[at]
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "utf-16")))
    data = " ".join(words).replace(" \n ", "\n").encode(encoding, "surrogatepass")
    return draw(st.one_of(st.just(data), mutated(data)))


def image_bytes(form: str, image: np.ndarray = SMALL, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, form, **options)
    return stream.getvalue()


def images() -> list[tuple[str, bytes]]:
    """Name and content of images in every format."""
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left
    grey = SMALL[..., 0]
    return [
        ("a.png", image_bytes("PNG")),
        ("a.png", image_bytes("PNG", grey, bits=4)),
        ("a.png", image_bytes("PNG", grey.astype(np.uint16) * 257)),
        ("a.jpg", image_bytes("JPEG", exif=exif)),
        ("a.webp", image_bytes("WEBP")),
        ("a.bmp", image_bytes("BMP")),
        ("a.pgm", image_bytes("PPM", grey)),
        ("a.tif", image_bytes("TIFF", compression="tiff_lzw")),
    ]


def film() -> bytes:
    path = pathlib.Path(os.environ.get("TMPDIR", "/tmp"), f"film{os.getpid()}.avi")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.0, (32, 16))
    for number in range(3):
        writer.write(picture(number, (16, 32)))
    writer.release()
    data = path.read_bytes()
    path.unlink()
    return data


def numpy_bytes(save: Callable, *arrays, **named) -> bytes:
    stream = io.BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()


def mat_bytes(**options) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"Position3DGrid": np.ones((55, 305, 4), np.float32)}, **options)
    return stream.getvalue()


def model_bytes(config: str = '{"task": "depth", "model": {"freeze_encoder": false}}') -> bytes:
    tensors = {"depth/params/a/kernel": np.ones((2, 3), np.float16), "depth/batch_stats/a/mean": np.ones(2, np.float32)}
    return safetensors.numpy.save(tensors, {"config": config, "step": "5"})


def renamed(model: bytes, old: bytes, new: bytes) -> bytes:
    """A .safetensors file with another text in its header."""
    length = int.from_bytes(model[:8], "little")
    header = model[8 : 8 + length].replace(old, new)
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + model[8 + length :]


CALIBRATION = "calib_time: 09-Jan-2012 13:57:47\n" + row("R_rect_00", np.eye(3))
for _name, _x in (("02", -0.06), ("03", 0.48)):
    CALIBRATION += row(f"S_rect_{_name}", [SIZE[1], SIZE[0]]) + row(f"P_rect_{_name}", projection(_x))
ODOMETRY = "".join(row(f"P{i}", projection(x)) for i, x in enumerate((0.0, 0.54)))
POINTS = np.random.default_rng(0).normal(0, 10, (20, 4)).astype(np.float32)
MAPS = np.linspace(1, 20, 3 * 8 * 10, dtype=np.float32).reshape(3, 8, 10)
PFM = b"Pf\n10 8\n-1.0\n" + MAPS[0].tobytes()
EXTRINSICS = "T_LIDAR_CAM00:\n- [1.0, 0.0, 0.0, 0.1]\n- [0.0, 1.0, 0.0, 0.2]\n- [0.0, 0.0, 1.0, 0.3]\n- [0, 0, 0, 1]\n"
FRONT = "image_height: 1024\nimage_width: 1280\ncamera_matrix:\n  data: [900.0, 0, 640.0, 0, 900.0, 512.0, 0, 0, 1.0]\n"
CITY = '{"extrinsic": {"baseline": 0.2}, "intrinsic": {"fx": 2262.0, "fy": 2265.0, "u0": 1096.0, "v0": 513.0}}'
MODEL = "983.0 983.0 643.6 493.4\n" + " ".join(map(str, np.eye(4).ravel()))
TABLE = '[\n{"token": "a", "rotation": [1, 0, 0, 0]},\n{"token": "b"}\n]'
PROXIES = '{"method": {"name": "sgm"}, "clips": {"a": {"size": [48, 160], "pairs": 2, "focal": 0.5, "baseline": 0.5}}}'
