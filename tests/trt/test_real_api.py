"""What the stand-ins cannot show and a GPU is not needed for: the real TensorRT-RTX has every call that our code makes,
with as many arguments, and every one that its stand-in answers; it takes what it is given, and says what is wrong.

Nothing here runs an engine: that is tests/gpu's.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stand_in
from stand_in_plans import growing_pack

from packnet_deploy.errors import ArtefactError, EnvironmentFault
from packnet_deploy.trt import flavour as flavours
from packnet_deploy.trt import loader, network, options, refit
from packnet_deploy.trt.build import build_plan
from packnet_deploy.trt.check import check_plan, load_checked_bank
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.flavour import Flavour, load_flavour
from packnet_deploy.trt.gpu import find_gpu
from packnet_deploy.trt.loader import DATA_TYPES, LoadedEngine
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.sidecar import Gpu, read_sidecar

pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU here: tests/gpu runs engines on it"),
]

# What our names are, in each module that calls TensorRT.
CALLED: dict[Any, dict[str, str]] = {
    loader: {
        "self._engine": "ICudaEngine",
        "self._runtime": "Runtime",
        "self._context": "IExecutionContext",
        "self._config": "IRuntimeConfig",
        "self._cache": "IRuntimeCache",
        "inspector": "EngineInspector",
        "self.api": "",
        "api": "",
    },
    refit: {"refitter": "Refitter", "expected": "Weights", "loaded.api": ""},
    network: {
        "builder": "Builder",
        "self.builder": "Builder",
        "definition": "INetworkDefinition",
        "parser": "OnnxParser",
        "config": "IBuilderConfig",
        "profile": "IOptimizationProfile",
        "api": "",
    },
    options: {"config": "IBuilderConfig", "api": ""},
    flavours: {"api": "", "self.api": ""},
}
STAND_INS = {
    stand_in.StandInEngine: "ICudaEngine",
    stand_in.StandInContext: "IExecutionContext",
    stand_in.StandInRefitter: "Refitter",
    stand_in.StandInWeights: "Weights",
    stand_in.StandInLogger: "ILogger",
    stand_in.StandInDataType: "DataType",
}
# Of stand-ins: what tests ask and set.
KNOBS = {
    "session",
    "inputs",
    "weights",
    "trt",
    "engine",
    "addresses",
    "batch",
    "profile",
    "given",
    "on_host",
    "pointer",
}


@pytest.fixture(scope="session")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="no tensorrt-rtx")


def calls_in(module: Any) -> Iterator[tuple[str, str, int | None]]:
    """Class, member, and how many arguments it is called with (None: it is not called)."""
    names = CALLED[module]
    called: dict[int, int] = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call):
            starred = any(isinstance(argument, ast.Starred) for argument in node.args)
            called[id(node.func)] = 0 if starred else len(node.args) + len(node.keywords)
        if isinstance(node, ast.Attribute) and (owner := ast.unparse(node.value)) in names:
            yield names[owner], node.attr, called.get(id(node))


def most_arguments(member: Any) -> int:
    """By the signatures in its docstring, ``self`` aside."""
    signatures = re.findall(r"^(?:\d+\. )?\w+\((.*)\) -> ", member.__doc__ or "", re.MULTILINE)
    assert signatures, member
    return max(len(re.findall(r"(?:^|, )\w+: ", signature.removeprefix("self"))) for signature in signatures)


@pytest.mark.parametrize("module", CALLED, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_call_that_our_code_makes_is_there(rtx: Any, module: Any) -> None:
    found = list(calls_in(module))
    assert len(found) >= 2 * len(CALLED[module])
    for kind, name, arguments in found:
        owner = getattr(rtx, kind) if kind else rtx
        assert hasattr(owner, name), f"{kind or 'tensorrt_rtx'}.{name}"
        member = getattr(owner, name)
        if arguments and kind and callable(member):
            assert arguments <= most_arguments(member), f"{kind}.{name} of {arguments} arguments"


@pytest.mark.parametrize("ours", STAND_INS, ids=lambda ours: ours.__name__)
def test_a_stand_in_answers_to_nothing_that_the_real_one_does_not(rtx: Any, ours: type) -> None:
    real = getattr(rtx, STAND_INS[ours])
    names = {name for name in (*vars(ours), *getattr(ours, "__dataclass_fields__", ())) if not name.startswith("_")}
    for name in names - KNOBS:
        assert hasattr(real, name), f"{STAND_INS[ours]}.{name}"
        if inspect.isfunction(vars(ours).get(name)):
            arguments = len(inspect.signature(vars(ours)[name]).parameters) - 1
            assert arguments <= most_arguments(getattr(real, name)), f"{STAND_INS[ours]}.{name}"


def test_a_built_plan_passes_every_check_and_then_wants_a_gpu(rtx: Any, tmp_path: Path) -> None:
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


def test_weights_on_the_gpu_are_named_by_their_address(rtx: Any) -> None:
    for kind in DATA_TYPES.values():
        weights = rtx.Weights(getattr(rtx.DataType, kind), 0x7F00_0000_0100, 12)
        assert (weights.dtype, weights.size) == (getattr(rtx.DataType, kind), 12)
    assert rtx.TensorLocation.DEVICE != rtx.TensorLocation.HOST


def test_a_profiler_of_ours_is_one_of_theirs(rtx: Any) -> None:
    times: dict[str, float] = {}
    profiler = loader._profiler(rtx, times)
    assert isinstance(profiler, rtx.IProfiler)
    for ms in (0.5, 0.25):
        profiler.report_layer_time("conv", ms)
    assert times == {"conv": 0.75}  # a layer may come twice in one run
    assert isinstance(rtx.IExecutionContext.profiler, property)


def test_what_running_can_be_told_is_there(rtx: Any) -> None:
    """TensorRT-RTX's runtime configuration, by the members that ``LoadedEngine.configure`` sets."""
    for name in ("cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"):
        assert isinstance(getattr(rtx.IRuntimeConfig, name), property)
    assert {"WHOLE_GRAPH_CAPTURE"} < set(rtx.CudaGraphStrategy.__members__)
    assert {"EAGER"} < set(rtx.DynamicShapesKernelSpecializationStrategy.__members__)
    assert {"CURRENT"} < set(rtx.ComputeCapability.__members__)
    assert {"REFIT_INDIVIDUAL", "SPARSE_WEIGHTS", "REQUIRE_USER_ALLOCATION", "TF32"} < set(rtx.BuilderFlag.__members__)
    assert {"AMPERE_PLUS"} < set(rtx.HardwareCompatibilityLevel.__members__)
    for name in ("weights_validation", "max_threads"):
        assert isinstance(getattr(rtx.Refitter, name), property)
    assert Flavour("tensorrt-rtx", rtx).strongly_typed
