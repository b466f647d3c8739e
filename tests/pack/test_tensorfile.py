"""Canonical safetensors: the same bytes always, readable by the official library, and nothing hostile gets in."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_tensors import METADATA, TENSORS
from safetensors.numpy import load_file

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.pack.chain import file_sha256
from packnet_deploy.pack.manifest import Manifest
from packnet_deploy.pack.tensorfile import TensorFile, write_tensors

WRITE = """
import hashlib, io, sys
sys.path[:0] = [{here!r}]
from odd_tensors import METADATA, TENSORS
from packnet_deploy.pack.tensorfile import write_tensors
out = io.BytesIO()
write_tensors(out, dict(reversed(TENSORS.items())), dict(reversed(METADATA.items())))
print(hashlib.sha256(out.getvalue()).hexdigest())
"""


def canonical() -> bytes:
    out = io.BytesIO()
    write_tensors(out, TENSORS, METADATA)
    return out.getvalue()


@pytest.mark.parametrize("seed", ["0", "4711"])
def test_the_same_content_gives_the_same_bytes_in_every_process(seed: str) -> None:
    script = WRITE.format(here=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == hashlib.sha256(canonical()).hexdigest()


def test_the_layout_is_the_one_that_the_format_describes() -> None:
    data = canonical()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length]
    header = json.loads(text)
    assert length % 8 == 0
    assert text.rstrip(b" ") == json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert list(header) == sorted(header)
    order = sorted((name for name in header if name != "__metadata__"), key=lambda n: header[n]["data_offsets"][0])
    # "a/none" is empty: it begins where "scalar" does, so its place among them is by name alone
    assert order == ["a/none", "scalar", "z", "a/é", "b/half", "b/odd"]
    offsets = [header[name]["data_offsets"] for name in order]
    assert [begin for begin, _ in offsets] == [0, *(end for _, end in offsets[:-1])]
    assert 8 + length + offsets[-1][1] == len(data)


def test_the_official_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "canonical.safetensors"
    path.write_bytes(canonical())
    loaded = load_file(path)
    assert loaded.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        assert loaded[name].tobytes() == array.tobytes()


def test_it_reads_back_whole_and_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "canonical.safetensors"
    path.write_bytes(canonical())
    with TensorFile(path) as file:
        assert file.metadata == METADATA
        for name, array in TENSORS.items():
            assert (file.entries[name].dtype, file.entries[name].shape) == (array.dtype, array.shape)
            assert file.read(name).tobytes() == array.tobytes()
        assert file.read_range("z", 2, 3).tolist() == [2, 3, 4]
        assert file.read_range("b/odd", 5, 0).tolist() == []
        for start, count in ((-1, 1), (0, 7), (6, 1), (2, -1)):
            with pytest.raises(IndexError):
                file.read_range("z", start, count)


def test_big_endian_and_strided_arrays_are_stored_as_little_endian_c_order(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    with open(path, "wb") as file:
        write_tensors(file, {"x": array}, {})
    with TensorFile(path) as opened:
        assert opened.metadata == {}
        assert opened.read("x").tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int8, np.bool_])
def test_other_dtypes_are_not_written(dtype: type) -> None:
    with pytest.raises(TypeError, match="cannot be stored"):
        write_tensors(io.BytesIO(), {"x": np.zeros(2, dtype)}, {})


def header_file(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(dtype: str = "F32", shape: list[Any] | None = None, offsets: tuple[int, int] = (0, 4), name: str = "x") -> Any:
    return {name: {"dtype": dtype, "shape": [1] if shape is None else shape, "data_offsets": list(offsets)}}


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "header length 2^63": (2**63).to_bytes(8, "little") + b"{}",
    "header longer than the file": (100).to_bytes(8, "little") + b"{}",
    "header not JSON": header_file(b"no JSON"),
    "header not UTF-8": header_file(b'{"\xff":{}}'),
    "header a list": header_file([]),
    "header null": header_file(None),
    "header nested deeply": header_file(b"[" * 100_000),
    "metadata nested deeply": header_file(b'{"__metadata__":{"a":' + b"[" * 100_000 + b"}}"),
    "metadata not strings": header_file({"__metadata__": {"format": 3}}),
    "metadata a list": header_file({"__metadata__": ["format"]}),
    "a lone surrogate in a name": header_file(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"),
    "a NUL in a name": header_file(one(name="a\0b"), b"1234"),
    "a line break in a name": header_file(one(name="a\nb"), b"1234"),
    "an unknown dtype with a line break": header_file(one(dtype="F32\n" * 999), b"1234"),
    "float64": header_file(one("F64", offsets=(0, 8)), b"12345678"),
    "int64": header_file(one("I64", offsets=(0, 8)), b"12345678"),
    "a 4-bit dtype": header_file(one("F4", [2], (0, 1)), b"1"),
    "a negative size": header_file(one(shape=[-1]), b"1234"),
    "a fractional size": header_file(one(shape=[1.5]), b"1234"),
    "a shape that overflows": header_file(one(shape=[1 << 40, 1 << 40]), b"1234"),
    "an empty shape that overflows": header_file(one(shape=[0, 1 << 40, 1 << 40], offsets=(0, 0))),
    "too many dimensions": header_file(one(shape=[1] * 65), b"1234"),
    "a shape larger than its bytes": header_file(one(shape=[2]), b"1234"),
    "offsets backwards": header_file(one(offsets=(4, 0)), b"1234"),
    "offsets behind the end": header_file(one(offsets=(0, 4)), b"123"),
    "a tensor twice": header_file(
        b'{"x":' + json.dumps(one()["x"]).encode() + b',"x":' + json.dumps(one()["x"]).encode() + b"}", b"1234"
    ),
    "a key twice": header_file(b'{"__metadata__":{"a":"1","a":"2"}}'),
    "an entry as a list": header_file({"x": ["F32", [1], [0, 4]]}, b"1234"),
    "metadata null": header_file({"__metadata__": None}),
    "a hole": header_file(one(offsets=(4, 8)), b"12345678"),
    "an overlap": header_file({**one(name="a"), **one(name="b")}, b"1234"),
    "bytes behind the last tensor": header_file(one(), b"12345"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(HOSTILE[case])
    with pytest.raises(ArtefactError) as caught:
        TensorFile(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert len(message.splitlines()) == 1
    assert len(message) < len(str(path)) + 300


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize(
    "make",
    [lambda folder: folder, lambda folder: Path("/dev/zero"), a_pipe],
    ids=["a folder", "a device", "a pipe"],
)
@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_what_is_not_a_regular_file_is_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(ArtefactError, match="not a regular file"):
        TensorFile(make(tmp_path))


def test_a_file_that_is_not_there_is_the_environments_fault_unless_a_pack_lacks_it(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="missing: expected a file, got nothing: no such file"):
        TensorFile(tmp_path / "missing")
    with pytest.raises(ArtefactError, match="missing: no such file; the pack is incomplete"):
        TensorFile(tmp_path / "missing", inside=tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_we_may_not_read_is_the_environments_fault(tmp_path: Path) -> None:
    path = tmp_path / "secret.safetensors"
    path.write_bytes(canonical())
    path.chmod(0)
    with pytest.raises(EnvironmentFault, match="permissions"):
        TensorFile(path)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails to be read: /proc/self/mem")
@pytest.mark.parametrize("read", [Manifest.read, TensorFile, file_sha256])
def test_a_disk_that_fails_is_the_environments_fault(read: Callable[[Path], object]) -> None:
    with pytest.raises(EnvironmentFault, match=r"cannot be read \(Input/output error\)"):
        read(Path("/proc/self/mem"))  # a regular file; to read its first byte is EIO


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(canonical())
    with TensorFile(path) as file:
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises(ArtefactError, match="ends inside tensor 'b/odd'"):
            file.read("b/odd")
