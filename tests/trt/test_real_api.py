"""What the stand-ins cannot show and a GPU is not needed for: the real TensorRT-RTX has what running a plan calls,
takes what it is given, and says what is wrong. Nothing here runs an engine: that is tests/gpu's.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_in_plans import growing_pack

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.trt.build import build_plan
from packnet_deploy.trt.check import check_plan, load_checked_bank
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.flavour import load_flavour
from packnet_deploy.trt.gpu import find_gpu
from packnet_deploy.trt.loader import DATA_TYPES, LoadedEngine
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.sidecar import Gpu, read_sidecar

pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU here: tests/gpu runs engines on it"),
]


@pytest.fixture(scope="session")
def rtx() -> object:
    return pytest.importorskip("tensorrt_rtx", reason="no tensorrt-rtx")


def test_a_built_plan_passes_every_check_and_then_wants_a_gpu(rtx: object, tmp_path: Path) -> None:
    pack, plan = growing_pack(tmp_path / "tiny.pack"), tmp_path / "tiny.plan"
    flavour_of_build = build_plan(pack, plan, BuildOptions(backend="tensorrt-rtx", switch="bind")).sidecar.flavour
    assert flavour_of_build == "tensorrt-rtx"
    with pytest.raises(EnvironmentFault, match="running an engine needs an NVIDIA GPU"):
        Engine.load(plan, pack)
    sidecar, flavour = read_sidecar(plan), load_flavour("tensorrt-rtx")
    gpu = Gpu("one that is elsewhere", sidecar.compute_capabilities[0], "13.0", 1 << 33)
    content = check_plan(plan, sidecar, pack, flavour, gpu)
    assert load_checked_bank(plan, sidecar, pack).weights == sidecar.weights
    with pytest.raises(ArtefactError, match=r"tiny\.plan: TensorRT cannot load the plan: .*; build the plan again"):
        LoadedEngine(plan, content, sidecar, flavour)


def test_what_switching_calls_is_there(rtx) -> None:
    for name in (
        "get_all_weights",
        "get_missing_weights",
        "get_weights_prototype",
        "refit_cuda_engine_async",
        "unset_named_weights",
    ):
        assert callable(getattr(rtx.Refitter, name))
    for name in ("weights_validation", "max_threads"):
        assert isinstance(getattr(rtx.Refitter, name), property)
    assert "location" in rtx.Refitter.set_named_weights.__doc__
    for name in ("set_tensor_address", "set_input_shape", "get_tensor_shape", "execute_async_v3"):
        assert callable(getattr(rtx.IExecutionContext, name))
    assert callable(rtx.IExecutionContext.is_stream_capturable)
    assert "runtime_config" in rtx.ICudaEngine.create_execution_context.__doc__
    assert callable(rtx.EngineInspector.get_engine_information)
    assert rtx.LayerInformationFormat.JSON != rtx.LayerInformationFormat.ONELINE
    for name in (
        "get_tensor_name",
        "get_tensor_shape",
        "get_tensor_dtype",
        "create_execution_context",
        "create_runtime_config",
        "create_engine_inspector",
    ):
        assert callable(getattr(rtx.ICudaEngine, name))
    for kind in DATA_TYPES.values():
        weights = rtx.Weights(getattr(rtx.DataType, kind), 0x7F00_0000_0100, 12)
        assert (weights.dtype, weights.size) == (getattr(rtx.DataType, kind), 12)
    assert rtx.TensorLocation.DEVICE != rtx.TensorLocation.HOST


def test_what_running_can_be_told_is_there(rtx) -> None:
    """TensorRT-RTX's runtime configuration, by the names that ``LoadedEngine.configure`` sets."""
    for name in ("cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"):
        assert isinstance(getattr(rtx.IRuntimeConfig, name), property)
    for name in ("create_runtime_cache", "set_runtime_cache"):
        assert callable(getattr(rtx.IRuntimeConfig, name))
    for name in ("deserialize", "serialize"):
        assert callable(getattr(rtx.IRuntimeCache, name))
    assert {"WHOLE_GRAPH_CAPTURE"} < set(rtx.CudaGraphStrategy.__members__)
    assert {"EAGER"} < set(rtx.DynamicShapesKernelSpecializationStrategy.__members__)
    assert {"CURRENT"} < set(rtx.ComputeCapability.__members__)
