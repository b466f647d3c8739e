"""Normalisation wherever it stands, and tasks with biases or normalisation of their own: in every layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from export_networks import Network, Tensors, pack_of, skeleton, tiny_network
from onnx import helper

from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.shared import export_shared
from packnet_deploy.pack import Pack, probe_batch

LAYOUTS = ("dense", "sparse", "shared", "selector", "selector for tensorrt")
TASKS = {"first": 0.4, "second": 0.5, "third": 0.5}
NORM = ("weight", "bias", "running_mean", "running_var")


def others(network: Network, names: list[str], seed: int) -> Tensors:
    """Other values for some of a network's tensors."""
    rng = np.random.default_rng(seed)
    return {
        name: network.tensors[name] * rng.uniform(0.5, 2, network.tensors[name].shape).astype(np.float32)
        for name in names
    }


def norm_first_network() -> Network:
    """As in DenseNet: bn - relu - conv - bn - relu - conv - concat - bn - head; only the second of the three folds."""
    shapes: dict[str, list[int | str]] = {"images": ["batch", 3, 5, 6]}
    shapes |= {f"n1.{part}": [3] for part in NORM} | {"a.weight": [8, 3, 3, 3]} | {f"n2.{part}": [8] for part in NORM}
    shapes |= {"b.weight": [12, 8, 1, 1]} | {f"n3.{part}": [20] for part in NORM}
    shapes |= {"head.weight": ["classes", 20], "head.bias": ["classes"]}

    def norm(name: str, source: str) -> onnx.NodeProto:
        return helper.make_node("BatchNormalization", [source, *(f"{name}.{part}" for part in NORM)], [name], name)

    nodes = [
        norm("n1", "images"),
        helper.make_node("Relu", ["n1"], ["r1"], "r1"),
        helper.make_node("Conv", ["r1", "a.weight"], ["a"], "a", pads=[1, 1, 1, 1]),
        norm("n2", "a"),
        helper.make_node("Relu", ["n2"], ["r2"], "r2"),
        helper.make_node("Conv", ["r2", "b.weight"], ["b"], "b"),
        helper.make_node("Concat", ["r2", "b"], ["both"], "concat", axis=1),
        norm("n3", "both"),
        helper.make_node("GlobalAveragePool", ["n3"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["logits"], "head", transB=1),
    ]
    rng = np.random.default_rng(3)
    tensors = {}
    for name, shape in shapes.items():
        if name != "images":
            tensors[name] = rng.normal(size=[5 if s == "classes" else s for s in shape]).astype(np.float32)
            if name.endswith("running_var"):
                tensors[name] = np.abs(tensors[name]) + np.float32(0.2)
    return Network(skeleton(nodes, shapes), tensors, tiny_network().spec)


NETWORKS = {"norm after": tiny_network, "norm before": norm_first_network}


def export(pack: Pack, folder: Path, layout: str) -> dict[str, tuple[Path, dict[str, np.ndarray]]]:
    """By task: the file that serves it, and what it is fed besides images."""
    names = [entry.name for entry in pack.tasks]
    if layout in ("dense", "sparse"):
        for name in names:
            export_task(pack, name, folder / f"{name}.onnx", ExportOptions(layout=layout))
        return {name: (folder / f"{name}.onnx", {}) for name in names}
    if layout == "shared":
        export_shared(pack, names, folder / "s", ExportOptions(layout="shared"))
        return {name: (folder / f"s/{name}.onnx", {}) for name in names}
    engine = "tensorrt" if layout.endswith("tensorrt") else "onnxruntime"
    export_selector(pack, folder / "s.onnx", ExportOptions(layout="selector", engine=engine))
    return {name: (folder / "s.onnx", {"task": np.array([i], np.int32)}) for i, name in enumerate(names, start=1)}


def expect_right(pack: Pack, folder: Path, layout: str) -> None:
    for task, (path, feeds) in export(pack, folder, layout).items():
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {"images": probe_batch(pack.input), **feeds})
        expected = pack.load_task(task).probe_logits
        assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max(), task


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_shared_normalisation(network: str, layout: str, tmp_path: Path) -> None:
    expect_right(pack_of(tmp_path / "some.pack", NETWORKS[network](), TASKS), tmp_path, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_normalisation_of_a_tasks_own(network: str, layout: str, tmp_path: Path) -> None:
    made = NETWORKS[network]()
    names = [name for name in made.tensors if name.startswith("n")]
    own = {"second": others(made, names, 1), "third": others(made, names, 2)}
    expect_right(pack_of(tmp_path / "some.pack", made, TASKS, own=own), tmp_path, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_what_tasks_have_of_their_own_a_selector_stacks_what_differs(layout: str, tmp_path: Path) -> None:
    made = tiny_network()
    own = {"second": others(made, ["b.bias", "n1.bias"], 1)}
    pack = pack_of(tmp_path / "some.pack", made, TASKS, own=own)
    expect_right(pack, tmp_path, layout)
    if layout == "selector":
        stored = {t.name: tuple(t.dims) for t in onnx.load(tmp_path / "s.onnx").graph.initializer}
        assert stored["n1.shift/tasks"] == (3, 8, 1, 1)
        assert stored["b.bias/tasks"] == (3, 40)
        assert stored["n1.scale"] == (8, 1, 1)  # a bias alone is another shift, not another scale


@pytest.mark.parametrize("layout", ["shared", "selector"])
@pytest.mark.parametrize("dead", [0.0, 1e-12])
def test_channels_that_the_shared_normalisation_silences(layout: str, dead: float, tmp_path: Path) -> None:
    """In the bank, a scale of zero would take the weights from a task that scales them otherwise."""
    made = tiny_network()
    alive = made.tensors["n1.weight"].copy()
    made.tensors["n1.weight"] = np.where(np.arange(8) < 3, np.float32(dead), alive)
    pack = pack_of(tmp_path / "some.pack", made, TASKS, own={"second": {"n1.weight": alive}})
    expect_right(pack, tmp_path, layout)


def test_the_bank_of_a_folder_does_not_change_with_a_tasks_own_normalisation(tmp_path: Path) -> None:
    made = tiny_network()
    own = {"second": others(made, ["n1.weight", "n2.running_var"], 1)}
    young = pack_of(tmp_path / "young.pack", made, {"first": 0.4})
    grown = pack_of(tmp_path / "grown.pack", made, {"first": 0.4, "second": 0.5}, own=own)
    options = ExportOptions(layout="shared")
    export_shared(young, ["first"], tmp_path / "s", options)
    before = (tmp_path / "s/first.onnx").read_bytes()
    report = export_shared(grown, ["second"], tmp_path / "s", options)
    assert set(report.differences) == {"first", "second"}
    assert (tmp_path / "s/first.onnx").read_bytes() == before
