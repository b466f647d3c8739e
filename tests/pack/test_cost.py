"""What hostile packs and deltas cost: sizes come before hashes, and what a file holds is counted before it is read.

Each is read by a command in a process of its own, which says the most memory that it took; twice of what the golden
pack takes is the bound.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

import pytest
from forging import forged

from packnet_deploy.errors import ArtefactError
from packnet_deploy.fresh import in_fresh_process
from packnet_deploy.pack import InputSpec, probe_batch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the most memory of a process is told by /proc")


def most_memory() -> int:
    """Of this process, in bytes. getrusage would tell its parent's, where that had more."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def run(arguments: list[str]) -> tuple[int, int, float]:
    """A command's exit code, the most memory it took in bytes, and its processor time."""
    from packnet_deploy.cli.app import run as run_command

    code = run_command(arguments)
    return code, most_memory(), time.process_time()


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])


def expect_cheap(hostile: Path, honest: Path, code: int) -> None:
    """Verifying ``hostile`` ends with ``code``, and takes at most twice the memory of ``honest``, and five seconds."""
    _, bound, _ = in_fresh_process(run, ["verify", "--pack", str(honest)])
    ended, most, seconds = in_fresh_process(run, ["verify", "--pack", str(hostile)])
    assert ended == code
    assert most < 2 * bound
    assert seconds < 5


REPORTS = {
    "empty lists": lambda: '{"a": [' + "[]," * 2_000_000 + "[]]}",
    "as many objects as there may be": lambda: '{"a": [' + '{"b":{}},' * 80_000 + "{}]}",
    "one text": lambda: json.dumps({"a": "x" * 7_900_000}),
    "one text of wide letters": lambda: json.dumps({"a": "x" * 3_900_000 + "\U0001f600"}, ensure_ascii=False),
    "a header of 90 MB": lambda: json.dumps({"a": "x" * 90_000_000}),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_delta_whose_header_grows_when_it_is_read(golden: Path, golden_copy: Path, name: str) -> None:
    """With its hash in pack.json, so that it is read."""
    delta = golden_copy / "deltas/0001-shapes.safetensors"
    forged(delta, delta, lambda tensors, metadata: metadata.update(report=REPORTS[name]()))
    document = json.loads((golden_copy / "pack.json").read_text())
    document["tasks"][0] |= {"sha256": hashlib.sha256(delta.read_bytes()).hexdigest(), "bytes": delta.stat().st_size}
    (golden_copy / "pack.json").write_text(json.dumps(document))
    expect_cheap(golden_copy, golden, code=4)  # the next delta is of another parent


@pytest.mark.parametrize(
    ("later", "code"),
    [([[]] * 2_000_000, 4), ([{"b": {}}] * 80_000, 0), ("x" * 7_900_000, 0), ("x" * 60_000_000, 4)],
    ids=["empty lists", "as many objects as there may be", "one text", "64 MB"],
)
def test_a_pack_json_that_grows_when_it_is_read(golden: Path, golden_copy: Path, later: object, code: int) -> None:
    document = json.loads((golden_copy / "pack.json").read_text()) | {"later": later}
    (golden_copy / "pack.json").write_text(json.dumps(document, separators=(",", ":")))
    expect_cheap(golden_copy, golden, code)


@pytest.mark.parametrize("file", ["graph.onnx", "deltas/0002-birds.safetensors"])
def test_a_file_of_eight_gigabytes_is_not_read(golden: Path, golden_copy: Path, file: str) -> None:
    with (golden_copy / file).open("r+b") as opened:
        opened.truncate(8 << 30)  # without a byte on disk
    expect_cheap(golden_copy, golden, code=4)


def test_a_probe_batch_is_what_the_image_takes() -> None:
    """The largest image that there may be: 4 of them in float32, and half as much again while they are made."""
    result, most = in_fresh_process(probe, [1, 4096, 4096])
    assert result == 4 << 26
    assert most < 1.5 * result
    with pytest.raises(
        ArtefactError, match=r"input shape: expected at most 16,777,216 numbers, got \[3, 16384, 16384\]"
    ):
        spec_of([3, 16384, 16384])


def probe(shape: list[int]) -> tuple[int, int]:
    """Bytes of a probe batch, and how much memory it took more than there was before."""
    before = most_memory()
    size = probe_batch(spec_of(shape)).nbytes
    return size, most_memory() - before


def spec_of(shape: list[int]) -> InputSpec:
    channels, height, width = shape
    return InputSpec((channels, height, width), (0.5,) * channels, (0.5,) * channels, resize=256)
