"""The shared folder: what is in it, how it grows, and that no step of growing harms an older graph."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from export_networks import Network, pack_of

from packnet_deploy.errors import ArtefactError, CheckFailed, EnvironmentFault, UsageError
from packnet_deploy.export import shared as module
from packnet_deploy.export.api import export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.shared import BANK_FILE, RANK_FILE, export_shared
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.pack.atomic import locked

SHARED = ExportOptions(layout="shared")
SHARES = {"first": 0.3, "second": 0.5, "third": 0.6}


@pytest.fixture
def young(tiny: Network, tmp_path: Path) -> Pack:
    return pack_of(tmp_path / "young.pack", tiny, {"first": 0.3})


@pytest.fixture
def grown(tiny: Network, tmp_path: Path) -> Pack:
    """The young pack with two tasks more."""
    return pack_of(tmp_path / "grown.pack", tiny, SHARES)


def logits(path: Path, pack: Pack) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"images": probe_batch(pack.input)})[0])


def is_right(path: Path, pack: Pack) -> bool:
    expected = pack.load_task(path.stem).probe_logits
    return bool(np.abs(logits(path, pack) - expected).max() <= 1e-5 * np.abs(expected).max())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_task_runs_on_one_bank(grown: Pack, tmp_path: Path) -> None:
    report = export_shared(grown, list(SHARES), tmp_path / "out", SHARED)
    assert sorted(path.name for path in report.files) == sorted([*(f"{t}.onnx" for t in SHARES), BANK_FILE, RANK_FILE])
    assert sorted(content(tmp_path / "out")) == sorted(path.name for path in report.files)
    assert report.tasks == tuple(SHARES)
    assert set(report.differences) == set(SHARES)
    for task in SHARES:
        assert is_right(tmp_path / "out" / f"{task}.onnx", grown)
    assert not list(tmp_path.glob(".out*"))


def test_runtime_folds_the_mask_into_a_dense_graph(grown: Pack, tmp_path: Path) -> None:
    export_shared(grown, ["second"], tmp_path / "out", SHARED)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    onnxruntime.InferenceSession(tmp_path / "out/second.onnx", options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node]
    dense = export_task(grown, "second", tmp_path / "dense.onnx")
    assert sorted(operators) == sorted(name for name, count in dense.operators.items() for _ in range(count))


def test_graphs_are_small_and_the_bank_is_whole(grown: Pack, tmp_path: Path) -> None:
    report = export_shared(grown, list(SHARES), tmp_path / "out", SHARED)
    graph = onnx.load(tmp_path / "out/second.onnx", load_external_data=False).graph
    inside = {t.name for t in graph.initializer if not t.external_data}
    norms = {f"n{n}.{kind}" for n in (1, 2) for kind in ("scale", "shift")}
    assert inside == {"b.bias", "head.weight", "head.bias", "task/owner"} | norms
    bank = grown.bank()
    stored = onnx.load(tmp_path / "out/second.onnx").graph.initializer
    owners = {t.name: onnx.numpy_helper.to_array(t) for t in stored if t.name.endswith("/owner") and t.dims}
    for name, owner in bank.owners.items():
        np.testing.assert_array_equal(owners[f"{name}/owner"], owner - np.uint8(1))
    assert report.dense_bytes == 3 * sum(
        4 * size for size in (8 * 3 * 9, 40 * 8, 40, 2 * (8 + 40), 4 * 40, 4)
    )  # weights, a bias, scales and shifts, heads


def test_a_folder_grows_and_older_graphs_keep_their_bytes(young: Pack, grown: Pack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_shared(young, ["first"], out, SHARED)
    before = content(out)
    report = export_shared(grown, ["third"], out, SHARED)
    assert report.tasks == ("first", "third")
    assert set(report.differences) == {"first", "third"}  # the older graph was checked against the new bank
    assert content(out)["first.onnx"] == before["first.onnx"]
    assert content(out)[BANK_FILE] != before[BANK_FILE]
    assert is_right(out / "first.onnx", grown)
    assert is_right(out / "third.onnx", grown)
    export_shared(grown, list(SHARES), tmp_path / "fresh", SHARED)
    export_shared(grown, ["second"], out, SHARED)
    assert content(out) == content(tmp_path / "fresh")


def test_any_mix_of_old_and_new_files_serves_an_older_graph(young: Pack, grown: Pack, tmp_path: Path) -> None:
    """What a reader may see while the folder grows, or after a crash between two renames."""
    old, new, mixed = (tmp_path / name for name in ("old", "new", "mixed"))
    export_shared(young, ["first"], old, SHARED)
    export_shared(grown, list(SHARES), new, SHARED)
    expected = logits(old / "first.onnx", young)
    mixed.mkdir()
    for graph, bank, owners in product((old, new), repeat=3):
        for source, name in ((graph, "first.onnx"), (bank, BANK_FILE), (owners, RANK_FILE)):
            shutil.copyfile(source / name, mixed / name)
        np.testing.assert_array_equal(logits(mixed / "first.onnx", young), expected)


def test_a_crash_between_two_renames_leaves_older_graphs_right(
    young: Pack, grown: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export_shared(young, ["first"], out, SHARED)
    replace = module.move_into_place

    def crash(files: list[Path], folder: Path) -> None:
        replace(files[:1], folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "move_into_place", crash)
    with pytest.raises(KeyboardInterrupt):
        export_shared(grown, ["second"], out, SHARED)
    assert sorted(content(out)) == [BANK_FILE, "first.onnx", RANK_FILE]
    assert is_right(out / "first.onnx", grown)


def test_a_new_folder_appears_whole_or_not_at_all(
    tiny: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = pack_of(tmp_path / "wrong.pack", tiny, {"only": 0.5}, wrong_probe=True)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckFailed, match="task 'only'"):
        export_shared(wrong, ["only"], tmp_path / "out", SHARED)
    assert sorted(tmp_path.iterdir()) == before
    export_shared(wrong, ["only"], tmp_path / "out", ExportOptions(layout="shared", verify=False))
    assert (tmp_path / "out" / BANK_FILE).exists()


@pytest.mark.parametrize("change", ["another pack", "an older pack", "another layout", "not onnx"])
def test_a_folder_that_is_not_this_packs_is_left_alone(
    tiny: Network, young: Pack, grown: Pack, tmp_path: Path, change: str
) -> None:
    out, pack = tmp_path / "out", grown
    if change == "another pack":
        export_shared(pack_of(tmp_path / "other.pack", tiny, {"first": 0.7}), ["first"], out, SHARED)
        message = r"first\.onnx: made from delta \w+, .*grown\.pack has \w+; it is of another pack"
    elif change == "an older pack":
        export_shared(grown, ["third"], out, SHARED)
        pack, message = young, r"third\.onnx: made from delta \w+, .*young\.pack has no such task"
    elif change == "another layout":
        out.mkdir()
        export_task(grown, "first", out / "first.onnx")
        message = r"first\.onnx: expected a graph of layout shared"
    else:
        out.mkdir()
        (out / "first.onnx").write_bytes(b"no model")
        message = r"first\.onnx: expected an ONNX file"
    before = content(out)
    with pytest.raises(ArtefactError, match=message):
        export_shared(pack, ["first"], out, SHARED)
    assert content(out) == before


def test_a_folder_has_one_precision(grown: Pack, tmp_path: Path) -> None:
    export_shared(grown, ["first"], tmp_path / "out", SHARED)
    with pytest.raises(UsageError, match="its bank is fp32, asked for is fp16"):
        export_shared(grown, ["second"], tmp_path / "out", ExportOptions(layout="shared", precision="fp16"))


def test_two_writers_do_not_meet(grown: Pack, tmp_path: Path) -> None:
    export_shared(grown, ["first"], tmp_path / "out", SHARED)
    with locked(tmp_path / "out"), pytest.raises(EnvironmentFault, match="another process is writing"):
        export_shared(grown, ["second"], tmp_path / "out", SHARED)


def test_requests_that_cannot_be_met(grown: Pack, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="first, second, third"):
        export_shared(grown, ["fourth"], tmp_path / "out", SHARED)
    with pytest.raises(UsageError, match="file: expected a folder, got a file"):
        export_shared(grown, ["first"], tmp_path / "file", SHARED)
    with pytest.raises(EnvironmentFault, match="nowhere: no such folder"):
        export_shared(grown, ["first"], tmp_path / "nowhere" / "out", SHARED)
    with pytest.raises(UsageError, match="layout: expected shared, got 'dense'"):
        export_shared(grown, ["first"], tmp_path / "out", ExportOptions())
    assert not (tmp_path / "out").exists()
