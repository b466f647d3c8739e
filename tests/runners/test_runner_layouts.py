"""Every layout behind one runner: the pack's own logits, sessions shared where the layout allows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from packnet_deploy.errors import ArtefactError, UsageError
from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.shared import BANK_FILE, export_shared
from packnet_deploy.pack import Pack, probe_batch
from packnet_deploy.runners import onnx as module
from packnet_deploy.runners.contract import Runner
from packnet_deploy.runners.exported import external_tensors, tasks_in
from packnet_deploy.runners.onnx import OnnxRunner
from packnet_deploy.runners.session import MappedBank

TASKS = ("shapes", "birds", "flowers")  # of 3, 2 and 5 classes; flowers has a bias of its own


@pytest.fixture
def pack(golden: Path) -> Pack:
    return Pack.open(golden)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of which sessions were opened."""
    files: list[Path] = []
    real: Callable[..., Any] = module.open_session

    def spy(path: Path, *arguments: Any, **checked: bool) -> Any:
        files.append(path)
        return real(path, *arguments, **checked)

    monkeypatch.setattr(module, "open_session", spy)
    return files


def export(pack: Pack, folder: Path, layout: str) -> dict[str, Path]:
    options = ExportOptions(layout=layout)
    if layout == "selector":
        export_selector(pack, folder / "all.onnx", options)
        return tasks_in(folder / "all.onnx")
    if layout == "shared":
        export_shared(pack, TASKS, folder / "all", options)
        return tasks_in(folder / "all")
    for task in TASKS:
        export_task(pack, task, folder / f"{task}.onnx", options)
    return tasks_in(folder)


@pytest.mark.parametrize(
    ("layout", "mapped", "sessions"),
    [("dense", False, 3), ("sparse", False, 3), ("shared", False, 3), ("shared", True, 3), ("selector", False, 1)],
)
def test_every_task_of_every_layout(
    pack: Pack, tmp_path: Path, opened: list[Path], layout: str, mapped: bool, sessions: int
) -> None:
    images = probe_batch(pack.input)
    with OnnxRunner(export(pack, tmp_path, layout), mapped=mapped) as runner:
        assert isinstance(runner, Runner)
        assert set(runner.tasks) == set(TASKS)
        for task in (*TASKS, *reversed(TASKS)):
            expected = pack.load_task(task).probe_logits
            got = runner.infer(images, task)
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
            assert runner.classes(task) == pack.header(task).classes
            assert runner.preprocessing(task) == pack.task_input(task)
            assert len(runner.infer(images[:1], task)) == 1
        assert len(opened) == sessions  # none was opened to switch


def test_mapped_sessions_read_one_bank(pack: Pack, tmp_path: Path) -> None:
    models = export(pack, tmp_path, "shared")
    with OnnxRunner(models, mapped=True) as runner:
        bank = runner._bank
        assert bank is not None
        assert len(bank._files) == 2  # bank and owners
        assert len(bank._values) == 2 * len(pack.packable)  # not times the number of tasks
        assert all(not array.flags.writeable for array in bank._files.values())


def test_mapped_sessions_really_run_on_what_they_are_lent(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime has ignored lent initialisers silently before: lend zeros, and the logits must be of zeros."""
    models = export(pack, tmp_path, "shared")
    images = probe_batch(pack.input)
    real = MappedBank.of

    def zeros(bank: MappedBank, path: Path) -> dict[str, Any]:
        lent = real(bank, path)
        empty = {n: np.zeros(value.shape(), np.float32) for n, value in lent.items() if n.endswith("/bank")}
        return lent | {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in empty.items()}

    monkeypatch.setattr(MappedBank, "of", zeros)
    with OnnxRunner(models, mapped=True) as runner:
        lent_zeros = runner.infer(images, "birds")
    bank = tmp_path / "all" / BANK_FILE
    bank.write_bytes(bytes(bank.stat().st_size))
    monkeypatch.setattr(MappedBank, "of", real)
    for mapped in (True, False):
        with OnnxRunner(models, mapped=mapped) as runner:
            np.testing.assert_array_equal(runner.infer(images, "birds"), lent_zeros)


def test_mapping_what_shares_nothing_is_refused(pack: Pack, tmp_path: Path) -> None:
    models = export(pack, tmp_path, "dense")
    with pytest.raises(UsageError, match="shares no bank with others; export with --layout shared"):
        OnnxRunner(models, mapped=True).__enter__()
    with pytest.raises(UsageError, match=r"mapped: .* got device 'auto'; use cpu"):
        OnnxRunner(models, "auto", mapped=True)


def test_a_task_that_a_selector_does_not_have(pack: Pack, tmp_path: Path) -> None:
    path = export(pack, tmp_path, "selector")["birds"]
    with (
        pytest.raises(UsageError, match=r"all\.onnx: no task 'cars' in it; its tasks: shapes, birds, flowers"),
        OnnxRunner({"cars": path}),
    ):
        pass


@pytest.mark.parametrize("listed", ["", "{}", "[]", '[{"name": "birds"}]', "[1]"])
def test_a_selector_with_a_malformed_list_of_tasks(pack: Pack, tmp_path: Path, listed: str) -> None:
    path = export(pack, tmp_path, "selector")["birds"]
    model = onnx.load(path)
    said = {entry.key: entry.value for entry in model.metadata_props} | {"tasks": listed}
    onnx.helper.set_model_props(model, said)
    onnx.save(model, path)
    with pytest.raises(ArtefactError, match=r"all\.onnx: metadata 'tasks': expected"), OnnxRunner({"birds": path}):
        pass
    with pytest.raises(ArtefactError, match="metadata 'tasks': expected"):
        tasks_in(path)


def test_tasks_are_found_in_files_and_folders(pack: Pack, tmp_path: Path) -> None:
    options = ExportOptions(layout="selector")
    export_selector(pack, tmp_path / "s.onnx", options)
    assert tasks_in(tmp_path / "s.onnx") == dict.fromkeys(TASKS, tmp_path / "s.onnx")
    export_task(pack, "birds", tmp_path / "other name.onnx")
    assert tasks_in(tmp_path / "other name.onnx") == {"birds": tmp_path / "other name.onnx"}
    with pytest.raises(UsageError, match=r"s\.onnx: task 'birds' is in .*other name\.onnx as well"):
        tasks_in(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="expected ONNX files in it, got none"):
        tasks_in(tmp_path / "empty")


def test_a_model_without_metadata_goes_by_its_file_name(write_model: Callable[..., Path]) -> None:
    path = write_model("birds")
    assert tasks_in(path) == {"birds": path}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"location": "../outside.bin"}, r"got no file '../outside\.bin'"),
        ({"location": "gone.bin"}, r"got no file 'gone\.bin'"),
        ({"offset": "4096000"}, "got offset '4096000'"),
        ({"offset": "-1"}, "got offset '-1'"),
        ({"length": "99999999"}, "and length '99999999'"),
        ({"length": "many"}, "and length 'many'"),
    ],
)
def test_external_data_that_does_not_fit(pack: Pack, tmp_path: Path, change: dict[str, str], message: str) -> None:
    path = export(pack, tmp_path, "shared")["birds"]
    (tmp_path / "outside.bin").write_bytes(bytes(100_000))
    model = onnx.load(path, load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    for entry in tensor.external_data:
        entry.value = change.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match=message):
        external_tensors(path)


def test_mapped_data_that_does_not_fill_its_tensor(pack: Pack, tmp_path: Path) -> None:
    path = export(pack, tmp_path, "shared")["birds"]
    model = onnx.load(path, load_external_data=False)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    tensor.dims[0] += 1
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match=f"tensor '{tensor.name}': .* bytes do not fill its shape"):
        OnnxRunner({"birds": path}, mapped=True).__enter__()


def test_metadata_is_json_anyone_can_read(pack: Pack, tmp_path: Path) -> None:
    with OnnxRunner(export(pack, tmp_path, "selector")) as runner:
        said = runner.metadata("birds")
    assert [task["name"] for task in json.loads(said["tasks"])] == list(TASKS)
