"""Weight files are read without PyTorch, exactly, and nothing a hostile file asks for happens."""

import io
import pathlib
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from robustdepth.errors import UserError
from robustdepth.interop.torch_file import read_torch_file, read_weights

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
GRID = np.arange(12, dtype=np.float32).reshape(3, 4)
EXPECTED = {
    "grid": GRID,
    "transposed": GRID.T[1:, ::2],
    "parameter": np.full(2, 0.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.asarray(7),
    "half": np.asarray([1.5, -2], np.float16),
    "bfloat16": np.asarray([1.5, -2], ml_dtypes.bfloat16),
    "double": np.asarray([0.1]),
    "flags": np.asarray([True, False]),
    "bytes": np.asarray([1, 255], np.uint8),
}


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_reads_what_torch_saved(name):
    tensors = read_torch_file(FIXTURES / name)
    assert list(tensors) == list(EXPECTED)
    for key, value in EXPECTED.items():
        assert tensors[key].dtype == value.dtype, key
        np.testing.assert_array_equal(tensors[key], value, err_msg=key)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_every_truncation_is_refused(name, tmp_path):
    data = (FIXTURES / name).read_bytes()
    file = tmp_path / name
    for size in range(0, len(data), 11):
        file.write_bytes(data[:size])
        with pytest.raises(UserError, match=r"cut|damaged|truncated|empty|refused"):
            read_torch_file(file)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_flipped_bytes_never_raise_anything_else(name, tmp_path):
    data = bytearray((FIXTURES / name).read_bytes())
    file, refused = tmp_path / name, 0
    for position in range(0, len(data), 5):
        flipped = data.copy()
        flipped[position] ^= 0x55
        file.write_bytes(flipped)
        try:
            read_torch_file(file)
        except UserError:
            refused += 1
    assert refused > 100


def test_real_weight_file_is_read(real_data):
    files = list((real_data.parent / "weights").glob("*/*.pth"))
    if not files:
        pytest.skip("no weight file beside the footage")
    tensors = read_torch_file(files[0])
    assert len(tensors) == 526
    assert tensors["base_net.level3.0.spp_dw.0.conv.weight"].shape == (64, 1, 3, 3)
    statistics = [value for name, value in tensors.items() if name.endswith("running_var")]
    assert all((value >= 0).all() and np.isfinite(value).all() for value in statistics)


def test_safetensors_are_read(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"grid": GRID}, file)
    np.testing.assert_array_equal(read_weights(file)["grid"], GRID)
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        read_weights(file)


def test_files_of_no_use_are_named(tmp_path):
    with pytest.raises(UserError, match=r"missing\.pth does not exist"):
        read_weights(tmp_path / "missing.pth")
    other = tmp_path / "weights.h5"
    other.write_bytes(b"x")
    with pytest.raises(UserError, match="unknown ending"):
        read_weights(other)
    text = tmp_path / "page.pth"
    text.write_text("<!DOCTYPE html> 404")
    with pytest.raises(UserError, match=r"not a file written by torch\.save"):
        read_weights(text)


# Hostile files. A zip file around a pickle that the test writes opcode by opcode.

FLOAT = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value):
    return pickle.dumps(value, 2)[2:-1]


def storage(count, key="0"):
    return b"(" + text("storage") + FLOAT + text(key) + text("cpu") + integer(count) + b"tQ"


def tensor(count, offset=0, shape=(2,), strides=(1,)):
    numbers = [integer(offset), pickle.dumps(shape, 2)[2:-1], pickle.dumps(strides, 2)[2:-1]]
    return REBUILD + b"(" + storage(count) + b"".join(numbers) + b"\x89NtR"


def write_zip(path, value, data=b"\0" * 16, compression=zipfile.ZIP_STORED):
    """A state_dict {"w": value} with one storage of `data`."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}" + text("w") + value + b"s.")
        archive.writestr("archive/data/0", data)
    return path


def test_the_handwritten_file_is_read(tmp_path):
    data = np.asarray([1, 2, 3, 4], np.float32).tobytes()
    tensors = read_torch_file(write_zip(tmp_path / "a.pth", tensor(4, 1, (3,), (1,)), data))
    np.testing.assert_array_equal(tensors["w"], [2, 3, 4])


def test_the_model_of_a_training_checkpoint_is_read(tmp_path):
    """Beside the model lie numbers, and an optimizer's state under numbers of its own."""
    state = b"}" + integer(140) + b"}" + text("exp_avg") + tensor(4, 2) + b"ss"
    model = b"}" + text("w") + tensor(4, 1, (3,), (1,)) + b"s"
    whole = b"}" + text("epoch") + integer(3) + b"s" + text("optimizer") + state + b"s" + text("model") + model + b"s."
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + whole)
        archive.writestr("archive/data/0", np.asarray([1, 2, 3, 4], np.float32).tobytes())
    tensors = read_weights(tmp_path / "a.ckpt")
    assert set(tensors) == {"w"}
    np.testing.assert_array_equal(tensors["w"], [2, 3, 4])


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_never_run(tmp_path, protocol, legacy):
    target = tmp_path / "owned"
    payload = pickle.dumps({"w": Attack(pathlib.Path.touch, target)}, protocol)
    file = tmp_path / "evil.pth"
    if legacy:
        header = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
        file.write_bytes(header + payload)
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", payload)
    with pytest.raises(UserError, match=r"is refused: (it asks for|its pickle uses the opcode)"):
        read_torch_file(file)
    assert not target.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"cos\nsystem\n" + text("true") + b"\x85R", "asks for 'os.system'"),
        (b"cbuiltins\neval\n" + text("1") + b"\x85R", "asks for 'builtins.eval'"),
        (b"ctorch.serialization\nload\n" + text("x") + b"\x85R", "asks for 'torch.serialization.load'"),
        (FLOAT + b")R", "calls .*, which is no function"),
        (text("no function") + b")R", "calls .*, which is no function"),
        (b"(ios\nsystem\n", "the opcode INST"),
        (b"(" + FLOAT + b"o", "the opcode OBJ"),
        (b"\x82\x01", "the opcode EXT1"),
        (b"}}b", "the opcode BUILD"),
        (b"Pkey\n", "the opcode PERSID"),
        (text("storage") + b"Q", "persistent id 'storage' is no storage"),
        (b"(" + text("module") + FLOAT + text("0") + text("cpu") + integer(4) + b"tQ", "is no storage"),
        (b"(" + text("storage") + REBUILD + text("0") + text("cpu") + integer(4) + b"tQ", "is no storage"),
        (storage(-4), "is no storage"),
        (b"\x81", "the opcode NEWOBJ"),
        (integer(3), "holds more than tensors"),
        (b"h\x09", "is damaged"),
        (b"\x8a\xff\x01", "is damaged"),
    ],
)
def test_other_names_and_opcodes_are_refused(tmp_path, value, message):
    with pytest.raises(UserError, match=message):
        read_torch_file(write_zip(tmp_path / "evil.pth", value))


@pytest.mark.parametrize(
    "value",
    [
        tensor(4, 3, (2,), (1,)),  # past the end
        tensor(4, 0, (2, 2), (3, 1)),
        tensor(4, 0, (2**40,), (1,)),
        tensor(4, 0, (2**40,), (0,)),  # a view that repeats one element without end
        tensor(4, 0, (5,), (0,)),
        tensor(4, 0, (0, 2**62, 2**62), (1, 1, 1)),
        tensor(4, 0, (1,) * 40, (1,) * 40),
        tensor(4, 0, (2, 2), (1,)),
        tensor(4, 2**70, (1,), (1,)),
        tensor(4, -1, (1,), (1,)),
        tensor(4, 0, (-1,), (1,)),
        tensor(4, 3, (2,), (-1,)),
        tensor(4, 0, (2.0,), (1,)),
        tensor(5, 0, (5,), (1,)),  # the storage has 16 bytes
        tensor(2**60, 0, (2,), (1,)),
    ],
)
def test_sizes_are_not_believed(tmp_path, value):
    with pytest.raises(UserError, match=r"reaches outside|damaged"):
        read_torch_file(write_zip(tmp_path / "evil.pth", value))


def test_legacy_sizes_are_not_believed(tmp_path):
    header = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    count = 2**60
    state = b"\x80\x02}" + text("w") + tensor(count) + b"s."
    file = tmp_path / "evil.pth"
    file.write_bytes(header + state + pickle.dumps(["0"], 2) + struct.pack("<Q", count) + b"\0" * 8)
    with pytest.raises(UserError, match="damaged or truncated"):
        read_torch_file(file)


def test_nested_tuples_that_double_are_refused_at_once(tmp_path):
    bomb = b")" + b"2\x86" * 60  # DUP, TUPLE2: 2^60 leaves if anyone walks them
    shared = b")q\x00" + b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    for value in (bomb, shared, shared + b"Q", shared + b"Ns" + text("x")):
        with pytest.raises(UserError):
            read_torch_file(write_zip(tmp_path / "evil.pth", value))


def test_compressed_and_overlapping_entries_are_refused(tmp_path):
    file = write_zip(tmp_path / "bomb.pth", tensor(4), b"\0" * 10**6, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="compressed or overlap"):
        read_torch_file(file)


def test_damaged_storage_is_noticed(tmp_path):
    data = (FIXTURES / "zip.pth").read_bytes()
    position = data.index(GRID.tobytes())
    file = tmp_path / "damaged.pth"
    file.write_bytes(data[:position] + b"\x01" + data[position + 1 :])
    with pytest.raises(UserError, match="damaged or truncated"):
        read_torch_file(file)


def test_missing_storage_is_noticed(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}" + text("w") + tensor(4) + b"s.")
    file = tmp_path / "missing.pth"
    file.write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="storage 0 is missing"):
        read_torch_file(file)
