"""How TensorRT's builder is set up: types, sparsity, rarer settings, timings; and what its log tells."""

from __future__ import annotations

import enum
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from export_networks import pack_of, tiny_network
from stand_in_plans import growing_pack

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.pack import Pack
from packnet_deploy.trt import build as building
from packnet_deploy.trt import flavour as flavours
from packnet_deploy.trt import network as networks
from packnet_deploy.trt.build import build_plan
from packnet_deploy.trt.flavour import Flavour, load_flavour
from packnet_deploy.trt.gpu import find_gpu
from packnet_deploy.trt.graph import engine_graph
from packnet_deploy.trt.network import Network
from packnet_deploy.trt.options import BuildOptions, apply_settings
from packnet_deploy.trt.sidecar import Gpu, read_sidecar

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'packnet-deploy[rtx]'")

pytestmark = pytest.mark.tensorrt
RTX = {"backend": "tensorrt-rtx"}


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return growing_pack(tmp_path / "p.pack")


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without one; what is built then is not run."""
    monkeypatch.setattr(building, "find_gpu", lambda index=0: None)


def config_of(pack: Pack, monkeypatch: pytest.MonkeyPatch, options: BuildOptions, task: str | None = None) -> Any:
    """Build, and give the builder's configuration as it was then."""
    configs = []

    def recorded(settings: Any, config: Any, api: Any) -> None:
        apply_settings(settings, config, api)
        configs.append(config)

    monkeypatch.setattr(networks, "apply_settings", recorded)
    build_plan(pack, pack.path.parent / "x.plan", options, task)
    return configs[0]


def test_fp32_means_fp32_unless_tf32_is_asked_for(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT's own default would round what is multiplied to ten bits, which the check's tolerance does not allow."""
    tf32 = load_flavour("tensorrt-rtx").api.BuilderFlag.TF32
    options = BuildOptions(**RTX, switch="bind")
    assert not config_of(pack, monkeypatch, options).get_flag(tf32)
    settings = tmp_path / "c.toml"
    for text in ('flags = ["TF32"]', 'flags = "TF32"'):
        settings.write_text(text)
        assert config_of(pack, monkeypatch, replace(options, config=settings)).get_flag(tf32)


def test_sparse_kernels_are_allowed_where_a_layer_keeps_to_the_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparse = pack_of(tmp_path / "sparse.pack", tiny_network(), {"first": 0.03})
    grown = pack_of(tmp_path / "grown.pack", tiny_network(), {"first": 0.03, "second": 0.5})
    flag = load_flavour("tensorrt-rtx").api.BuilderFlag.SPARSE_WEIGHTS
    for pack, switch, sparsity, task, keeps, allowed in (
        (sparse, "none", "require", "first", True, True),
        (sparse, "none", "auto", "first", True, True),
        (sparse, "none", "off", "first", True, False),
        (sparse, "bind", "auto", None, True, False),  # kernels are chosen before weights are known
        (sparse, "selector", "auto", None, True, False),
        (grown, "none", "auto", "first", True, True),
        (grown, "none", "auto", "second", False, False),  # together with the first it breaks the pattern
        (grown, "bind", "auto", None, False, False),
    ):
        options = BuildOptions(**RTX, switch=switch, sparsity=sparsity)
        assert config_of(pack, monkeypatch, options, task).get_flag(flag) is allowed
        sidecar = read_sidecar(tmp_path / "x.plan")
        assert sidecar.sparse_weights is allowed
        eligible = {layer.name: layer.eligible for layer in sidecar.sparsity}
        assert eligible == {"a.weight": False, "b.weight": keeps}


def test_settings_and_workspace(pack: Pack, tmp_path: Path) -> None:
    settings = tmp_path / "c.toml"
    settings.write_text('builder_optimization_level = 1\nprofiling_verbosity = "DETAILED"\nflags = ["TF32"]')
    options = BuildOptions(**RTX, switch="bind", config=settings, workspace=64)
    assert build_plan(pack, tmp_path / "x.plan", options).sidecar.plan_bytes > 1000


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("level = 3", UsageError, "expected some of builder_optimization_level.*'level'"),
        ("builder_optimization_level = true", UsageError, "expected a whole number from 0 up, got True"),
        ("flags = ['REFIT']", UsageError, "REFIT is packnet's to set"),
        ("flags = ['FASTER']", UsageError, "flags: expected one of .*, got 'FASTER'"),
        ("flags = [['TF32']]", UsageError, r"flags: expected one of .*, got \['TF32'\]"),
        ("profiling_verbosity = 'ALL'", UsageError, "profiling_verbosity: expected one of"),
        ("= 1", ArtefactError, "not TOML"),
    ],
)
def test_wrong_settings(pack: Pack, tmp_path: Path, text: str, error: type[Exception], match: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(error, match=match):
        build_plan(pack, tmp_path / "x.plan", BuildOptions(**RTX, switch="bind", config=tmp_path / "c.toml"))
    assert not (tmp_path / "x.plan").exists()


class RecordedConfig:
    """TensorRT's builder configuration as far as a timing cache goes, which TensorRT-RTX does not have."""

    def __init__(self, fits: bool) -> None:
        self.fits = fits
        self.caches: list[bytes] = []

    def create_timing_cache(self, content: bytes) -> bytes:
        return content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.caches.append(cache)
        return self.fits or not cache

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: bytearray(self.caches[-1] + b" and new ones"))


@pytest.mark.parametrize(("fits", "expected"), [(True, b"old timings and new ones"), (False, b" and new ones")])
def test_timings_are_brought_up_to_date(tmp_path: Path, fits: bool, expected: bytes) -> None:
    path = tmp_path / "timings"
    with networks.timing_cache(RecordedConfig(fits), path):
        assert not path.exists()
    assert path.read_bytes() == b" and new ones"
    path.write_bytes(b"old timings")
    with networks.timing_cache(RecordedConfig(fits), path):
        assert path.read_bytes() == b"old timings"
    assert path.read_bytes() == expected
    with pytest.raises(ZeroDivisionError), networks.timing_cache(RecordedConfig(fits), path):
        raise ZeroDivisionError  # a build that fails leaves them alone
    assert path.read_bytes() == expected
    with pytest.raises(EnvironmentFault, match="cannot be read"), networks.timing_cache(RecordedConfig(fits), tmp_path):
        pass
    absent = tmp_path / "no" / "timings"
    with (
        pytest.raises(EnvironmentFault, match="cannot be written"),
        networks.timing_cache(RecordedConfig(fits), absent),
    ):
        pass


def test_what_the_builders_log_says_of_sparse_layers(pack: Pack) -> None:
    """The lines are those of TensorRT 8 to 10 (github.com/NVIDIA/TensorRT/issues/4056); RTX 1.7 writes none."""
    network = Network.parse(load_flavour("tensorrt-rtx"), engine_graph(pack, BuildOptions()).onnx, [])
    layers = ["features.1", "features.10", "fc"]
    assert network.picked(layers) is None
    info = network.flavour.api.ILogger.INFO
    network.logger.log(info, "(Sparsity) Layers eligible for sparse math: features.1, features.10 + relu_1, fc")
    assert network.picked(layers) is None
    network.logger.log(
        info, "(Sparsity) TRT inference plan picked sparse implementation for layers: a, features.10 + relu"
    )
    assert network.picked(layers) == {"features.1": False, "features.10": True, "fc": False}
    network.logger.log(info, "(Sparsity) TRT inference plan picked sparse implementation for layers:")
    assert not any((network.picked(layers) or {}).values())


HARDWARE = enum.Enum("HardwareCompatibilityLevel", "NONE AMPERE_PLUS")


def on_a_stub(flavour: str, options: BuildOptions, **more: Any) -> MagicMock:
    """The configuration with which a builder was asked for a plan."""
    capabilities = enum.Enum("ComputeCapability", "CURRENT SM75 SM86")
    api = MagicMock(IProgressMonitor=object, ComputeCapability=capabilities, HardwareCompatibilityLevel=HARDWARE)
    builder = MagicMock()
    builder.build_serialized_network.return_value = b"plan"
    network = Network(Flavour(flavour, api), MagicMock(), builder, MagicMock(), (), None)
    assert network.serialise(options, (3, 5, 6), **more) == b"plan"
    return builder.create_builder_config()


@pytest.mark.parametrize(("refit", "expected"), [(True, ["CURRENT"]), (False, ["SM75", "SM86"])])
def test_what_can_be_refitted_is_built_for_the_gpu_at_hand(refit: bool, expected: list[str]) -> None:
    """With a list that lacks SM80 TensorRT-RTX refuses it, and a GPU may be one that no list has. On a stub."""
    config = on_a_stub("tensorrt-rtx", BuildOptions(), capabilities=("7.5", "8.6"), refit=refit)
    asked = [call.args for call in config.set_compute_capability.call_args_list]
    assert [(kind.name, place) for kind, place in asked] == [(name, place) for place, name in enumerate(expected)]
    assert config.num_compute_capabilities == len(expected)


@pytest.mark.parametrize("switch", ["bind", "selector", "none"])
def test_numbers_of_images_with_kernels_of_their_own(pack: Pack, monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    """Built by the real TensorRT-RTX; the first profile is that of the whole range, for runtimes that know no other."""
    options = BuildOptions(**RTX, switch=switch, max_batch=8, batch_profiles=(1, 8, 1))
    config = config_of(pack, monkeypatch, options, "two" if switch == "none" else None)
    assert config.num_optimization_profiles == 3
    for wrong, match in (({"batch_profiles": (9,)}, "expected 1 to 8 images"), ({"switch": "refit"}, "one optimi")):
        with pytest.raises(UsageError, match=match):
            replace(options, **wrong)


def test_a_cuda_graph_can_hold_what_tensorrt_rtx_runs(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory is taken as it runs; TensorRT itself takes none, and does not know the flag."""
    flags = load_flavour("tensorrt-rtx").api.BuilderFlag
    config = config_of(pack, monkeypatch, BuildOptions(**RTX, switch="bind"))
    assert config.get_flag(flags.REQUIRE_USER_ALLOCATION)
    assert not on_a_stub("tensorrt", BuildOptions()).set_flag.called
    assert on_a_stub("tensorrt-rtx", BuildOptions()).set_flag.called


def test_a_plan_for_every_gpu_from_ampere_on(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What TensorRT makes of it takes a GPU: on a stub."""
    options = BuildOptions(backend="tensorrt", switch="bind", hardware_compatible=True)
    assert on_a_stub("tensorrt", options).hardware_compatibility_level is HARDWARE.AMPERE_PLUS
    trt = Flavour("tensorrt", MagicMock())
    assert building._capabilities(trt, Gpu("One", "8.6", "13.0", 1 << 33), options) == flavours.FROM_AMPERE_ON
    with pytest.raises(EnvironmentFault, match=r"capability 8\.0 or newer to build on, got 7\.5"):
        building._capabilities(trt, Gpu("Older", "7.5", "13.0", 1 << 33), options)
    with pytest.raises(UsageError, match="builds for GPUs that are named"):
        build_plan(pack, pack.path.parent / "x.plan", replace(options, backend="auto"))
    with pytest.raises(UsageError, match="builds for GPUs that are named"):
        replace(options, backend="tensorrt-rtx")


@pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU here, and the build succeeds")
def test_the_real_builder_takes_the_current_gpu_and_misses_it(pack: Pack) -> None:
    """A list without SM80 is refused as such; ``CURRENT`` gets as far as looking for the GPU."""
    graph = engine_graph(pack, BuildOptions())
    network = Network.parse(load_flavour("tensorrt-rtx"), graph.onnx, [weight.name for weight in graph.weights])
    assert network.unmarked == ()
    with pytest.raises(EnvironmentFault) as refused:
        network.serialise(BuildOptions(), (3, 5, 6), capabilities=("8.6",), refit=True)
    assert "Target SM 80" not in str(refused.value)


def test_flags_that_put_host_code_into_a_plan_are_refused() -> None:
    with pytest.raises(UsageError, match="VERSION_COMPATIBLE puts code for the CPU into the plan"):
        apply_settings({"flags": ["VERSION_COMPATIBLE"]}, MagicMock(), MagicMock())
