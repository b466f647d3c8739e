"""What a graph may hold: everything that is exported and traced, and none of the hostile graphs."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile_graphs import DATA, FORBIDDEN, SIZES, _outside, changed, graphs, plain
from onnx import ModelProto, numpy_helper

from packnet_deploy.errors import ArtefactError
from packnet_deploy.runners import OnnxRunner
from packnet_deploy.runners.allowed import OPERATORS
from packnet_deploy.runners.exported import expect_allowed, external_tensors
from packnet_deploy.runners.session import open_session
from packnet_deploy.runners.wire import skimmed

HOSTILE = dict(graphs())


def test_a_plain_graph_is_let_in(tmp_path: Path) -> None:
    expect_allowed(plain().SerializeToString(), "graph")
    onnx.save(plain(), tmp_path / "plain.onnx")
    expect_allowed(tmp_path / "plain.onnx", "graph")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_refused_before_anything_runs_it(name: str) -> None:
    began = time.process_time()
    with pytest.raises(ArtefactError) as refused:
        open_session(HOSTILE[name].SerializeToString())
    assert "docs/format.md" in str(refused.value) or "expected an ONNX file" in str(refused.value)
    assert re.fullmatch(r"[\x20-\x7e]+", str(refused.value))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_forbidden_operator_is_named(name: str) -> None:
    with pytest.raises(ArtefactError, match=f"operator '{name}' is not among those a graph may hold"):
        expect_allowed(HOSTILE[name].SerializeToString(), "graph")


@pytest.mark.parametrize("name", SIZES)
def test_what_would_grow_is_told_by_its_size(name: str) -> None:
    with pytest.raises(ArtefactError, match=r"expected at most [\d,]+, got [\d,]+;|cannot be told before it runs"):
        expect_allowed(HOSTILE[name].SerializeToString(), "graph")


@pytest.mark.parametrize("name", DATA)
def test_and_as_a_file(name: str, tmp_path: Path) -> None:
    """There an initialiser may lie outside the graph, but only beside it."""
    (tmp_path / "model.onnx").write_bytes(HOSTILE[name].SerializeToString())
    with pytest.raises(ArtefactError), OnnxRunner({"task": tmp_path / "model.onnx"}):
        pass


def test_names_do_not_reach_the_terminal_as_they_are() -> None:
    def rename(model: ModelProto) -> None:
        model.graph.node[0].name = "\x1b]0;owned\x07\u202e\n"
        model.graph.node[0].op_type = "\x1b[2J"

    with pytest.raises(ArtefactError, match=r"node '\\x1b\]0;owned\\x07\\u202e\\n': operator '\\x1b\[2J'"):
        expect_allowed(changed(rename).SerializeToString(), "graph")


def _beside(folder: Path, **place: object) -> Path:
    """A model whose ``spare`` lies in ``data``, 64 bytes, beside it."""
    (folder / "data").write_bytes(np.ones(16, np.float32).tobytes())
    model = plain()
    _outside(model.graph.initializer[1], **({"location": "data"} | place))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def test_data_beside_a_model_is_found(tmp_path: Path) -> None:
    path = _beside(tmp_path, offset=0, length=64)
    expect_allowed(path, "model")
    (tensor,) = external_tensors(path)
    assert (tensor.name, tensor.file, tensor.length) == ("spare", tmp_path / "data", 64)


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ({"location": "../data"}, "in a file beside it, got no file '../data'"),
        ({"location": "./data"}, "got no file './data'"),
        ({"location": "."}, "got no file '.'"),
        ({"location": ""}, "got no file ''"),
        ({"location": "link"}, "got no file 'link'"),
        ({"offset": 4}, "60 bytes do not fill its shape"),
        ({"length": 128}, "expected a place in a file beside it"),
        ({"offset": -64, "length": 64}, "expected a place in a file beside it"),
        ({"offset": "\x1b"}, r"got offset '\\x1b'"),
        ({"basepath": "/"}, r"expected location, offset and length of its data, got \['location', 'basepath'\]"),
    ],
)
def test_data_elsewhere_is_refused(tmp_path: Path, place: dict[str, object], complaint: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "data").write_bytes(bytes(64))
    (folder / "link").symlink_to(tmp_path / "data")
    with pytest.raises(ArtefactError, match=complaint):
        expect_allowed(_beside(folder, **place), "model")


def test_two_tensors_in_one_place_are_refused(tmp_path: Path) -> None:
    """A file of 64 bytes would stand for any number of them."""
    path = _beside(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer.add().CopyFrom(model.graph.initializer[1])
    model.graph.initializer[2].name = "again"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match="expected a place of its own"):
        expect_allowed(path, "model")


def test_a_model_is_skimmed_without_its_weights() -> None:
    model = plain()
    large = np.arange(1 << 20, dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(large, "large"))
    left = skimmed(model.SerializeToString())
    assert len(left) < 1000
    read = onnx.load_model_from_string(left)
    assert [tensor.name for tensor in read.graph.initializer] == ["weight", "spare", "large"]
    assert read.graph.initializer[2].raw_data == b""
    model.graph.initializer[2].raw_data = b""
    assert read == model


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x3b\x3c",
        b"\xff" * 11,
        b"\x3a\x05\x2a\x03\x4a\x09x",
        b"\x00\x00",
    ],
    ids=["empty", "cut in a key", "longer than all", "groups", "a number without end", "cut in a tensor", "field 0"],
)
def test_what_is_no_message_is_no_graph(data: bytes) -> None:
    with pytest.raises(ArtefactError):
        expect_allowed(data, "graph")


@pytest.mark.parametrize("data", [b"\x3a\x00" * (2 << 20), b"\x32\x80\x80\x80\x09" + bytes(9 << 21)])
def test_what_is_not_weights_is_bounded(data: bytes) -> None:
    """Two million empty graphs; a note of 18 MiB."""
    began = time.process_time()
    with pytest.raises(ArtefactError, match="expected at most"):
        expect_allowed(data, "graph")
    assert time.process_time() - began < 5


def test_the_specification_lists_the_same_operators() -> None:
    specification = (Path(__file__).parents[2] / "docs/format.md").read_text()
    section = specification.partition("## What a graph may hold")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| ")]
    listed = {word for line in table for word in re.findall(r"`([A-Z]\w+)`", line)}
    assert listed == set(OPERATORS)
