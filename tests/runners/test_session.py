"""A weight-free graph in ONNX Runtime: any batch, and a clear word where its tensors do not fit."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from export_networks import Network, tiny_network
from hostile_graphs import plain

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.pack import probe_batch
from packnet_deploy.runners import session as sessions
from packnet_deploy.runners.session import CPU, CUDA, open_session, run_skeleton


@pytest.fixture
def tiny() -> Network:
    return tiny_network()


def test_the_skeleton_runs_on_any_batch(tiny: Network) -> None:
    images = probe_batch(tiny.spec)
    got = run_skeleton(tiny.skeleton.SerializeToString(), tiny.tensors, images[:3])
    np.testing.assert_allclose(got, tiny.logits(tiny.tensors)[:3], rtol=1e-4, atol=1e-5)


def test_a_tensor_of_another_shape_is_an_error(tiny: Network) -> None:
    tiny.tensors["b.bias"] = tiny.tensors["b.bias"][:5]
    with pytest.raises(ArtefactError, match=r"ONNX Runtime cannot run the graph: .*b\.bias"):
        run_skeleton(tiny.skeleton.SerializeToString(), tiny.tensors, probe_batch(tiny.spec))


class Opened:
    """Stands in for a session in which only the CPU came to run."""

    asked: list[object]

    def __init__(self, model: object, options: object, providers: list[object], **more: object) -> None:
        Opened.asked = providers

    def get_providers(self) -> list[str]:
        return [CPU]


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions._load_cuda_libraries.cache_clear()
    monkeypatch.setattr(onnxruntime, "InferenceSession", Opened)


@pytest.mark.parametrize(
    ("offered", "said", "message"),
    [
        ([CUDA, CPU], "", r"could not start its CUDA provider .*; check it with nvidia-smi; or use --device cpu"),
        (
            [CUDA, CPU],
            "Failed to load libcudnn.so.9",
            r"\(Failed to load libcudnn\.so\.9\); run: pip install 'onnxruntime-gpu\[",
        ),
        ([CPU], "", r"is a build without CUDA; run: pip uninstall onnxruntime"),
    ],
)
@pytest.mark.usefixtures("without_cuda")
def test_why_there_is_no_cuda(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    offered: list[str],
    said: str,
    message: str,
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print(said))
    with pytest.raises(EnvironmentFault, match=message):
        open_session(plain().SerializeToString(), "cuda")
    assert capsys.readouterr().out == ""  # what it says is in the error


@pytest.mark.usefixtures("without_cuda")
def test_cuda_computes_fp32_in_fp32_from_the_libraries_of_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loaded.append(True))
    for _ in range(2):
        open_session(plain().SerializeToString(), "auto")
        assert Opened.asked == [(CUDA, {"use_tf32": "0", "device_id": "0"}), CPU]
    open_session(plain().SerializeToString(), "cpu")
    assert Opened.asked == [CPU]
    assert loaded == [True]
