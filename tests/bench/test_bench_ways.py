"""Ways to hold several tasks: what is measured of each, and which one is recommended."""

from __future__ import annotations

import dataclasses
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from packnet_deploy.bench.job import WAYS, jobs_of_exports
from packnet_deploy.bench.memory import available_bytes
from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.report import REPEATED, Latency, Measurement
from packnet_deploy.bench.run import run_jobs
from packnet_deploy.bench.table import bench_tables
from packnet_deploy.bench.timing import Timing
from packnet_deploy.bench.ways import Way, recommend, ways_of
from packnet_deploy.export.api import export_selector, export_task
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.export.shared import export_shared
from packnet_deploy.pack import Pack

MB = 1_000_000


def measured(way: str, p50s: dict[str, float], switch: float | None, memory: int | None = 5) -> Measurement:
    latencies = tuple(
        Latency(task, batch, Timing(20, p50 * batch, p50, p50, 1.0, ""))
        for task, p50 in p50s.items()
        for batch in (8, 1)
    )
    providers = dict.fromkeys(p50s, "CPUExecutionProvider")
    return Measurement(way, tuple(p50s), 100, 40.0, memory, 2, providers, (), latencies, switch)


def test_each_way_is_summed_up_at_the_smallest_batch() -> None:
    ways = ways_of(
        [
            measured("separate", {"a": 3.0}, None, memory=7),
            measured("separate", {"b": 5.0}, None, memory=9),
            measured("selector", {"a": 8.0, "b": 10.0}, 1.0),
            measured("together", {"a": 4.0, "b": 6.0}, 0.5),
        ]
    )
    assert ways == [
        Way("reload", file_bytes=200, memory_bytes=11, switch_ms=40.0, p50_ms=4.0),
        Way("together", file_bytes=100, memory_bytes=7, switch_ms=0.5, p50_ms=4.5),
        Way("selector", file_bytes=100, memory_bytes=7, switch_ms=1.0, p50_ms=8.0),
    ]
    assert ways[1].alternating_ms == 5.0


def test_only_requests_in_turn_have_a_switch_taken_off() -> None:
    refit = measured("refit", {"a": 4.0, "b": 4.0}, 3.0)
    repeated = tuple(Latency(task, 1, Timing(20, 1.0, 1.0, 1.0, 1.0, ""), REPEATED) for task in "ab")
    refit = dataclasses.replace(
        refit,
        latencies=refit.latencies + repeated * 3,
        backend="tensorrt",
        cuda_graph=True,
        gpu_memory_bytes=70,
    )
    (way,) = ways_of([refit])
    assert (way.p50_ms, way.alternating_ms, way.gpu_memory_bytes) == (1.0, 4.0, 70)
    assert way.label == "refit tensorrt graph"


def test_one_task_has_no_ways() -> None:
    assert ways_of([measured("separate", {"a": 3.0}, None)]) == []


def test_memory_that_is_not_known_stays_unknown() -> None:
    separate = [measured("separate", {task: 3.0}, None, memory=None) for task in "ab"]
    ways = ways_of([*separate, measured("together", {"a": 4.0, "b": 6.0}, 0.5, memory=None)])
    assert [way.memory_bytes for way in ways] == [None, None]


FAST = Way("together", 0, 800 * MB, 0.0, 10.0)
AS_FAST = Way("shared", 0, 600 * MB, 0.5, 10.0)
LEAN = Way("mapped", 0, 200 * MB, 0.0, 30.0)
LEANEST = Way("reload", 0, 150 * MB, 500.0, 10.0)


@pytest.mark.parametrize(
    ("budget", "best"),
    [(1000 * MB, "shared"), (None, "shared"), (300 * MB, "mapped"), (180 * MB, "reload")],
)
def test_the_fastest_that_fits_and_of_equals_the_smallest(budget: int | None, best: str) -> None:
    assert recommend([FAST, AS_FAST, LEAN, LEANEST], budget).startswith(f"{best} ({WAYS[best]}): ")


def test_when_nothing_fits_the_smallest_comes_closest() -> None:
    assert recommend([FAST, LEANEST], 100 * MB).startswith("reload (")
    assert "none fits 100 MB" in recommend([FAST, LEANEST], 100 * MB)


ON_GPU = Way("refit", 0, 100 * MB, 1.0, 1.0, 500 * MB, "tensorrt")
ON_GPU_TOO = Way("together", 0, 100 * MB, 0.0, 1.9, 900 * MB, "tensorrt", cuda_graph=True)


@pytest.mark.parametrize(
    ("gpu_budget", "best"),
    [
        (None, "refit tensorrt (one engine, refitted"),
        (1000 * MB, "refit tensorrt (one engine, refitted"),  # as fast, in less memory
        (400 * MB, "shared (shared: a session per task"),
    ],
)
def test_the_gpus_memory_has_a_budget_of_its_own(gpu_budget: int | None, best: str) -> None:
    ways = [FAST, AS_FAST, ON_GPU_TOO, ON_GPU]
    assert recommend(ways, 700 * MB, gpu_budget).startswith(best)
    assert recommend([ON_GPU_TOO, ON_GPU], 700 * MB, 10 * MB).endswith(
        "none fits 10 MB of the GPU, the memory to spare; it comes closest"
    )
    assert recommend([ON_GPU], 10 * MB, 700 * MB).endswith("none fits 10 MB, the memory to spare; it comes closest")


def test_all_ways_of_a_pack_in_their_real_processes(golden: Path, tmp_path: Path, options: BenchOptions) -> None:
    pack = Pack.open(golden)
    names = ["shapes", "flowers"]
    dense = {name: export_task(pack, name, tmp_path / f"{name}.onnx").files[0] for name in names}
    export_shared(pack, names, tmp_path / "s", ExportOptions(layout="shared"))
    export_selector(pack, tmp_path / "all.onnx", ExportOptions(layout="selector"))
    shared = {name: tmp_path / "s" / f"{name}.onnx" for name in names}
    others = {"shared": shared, "mapped": shared, "selector": dict.fromkeys(names, tmp_path / "all.onnx")}
    jobs = jobs_of_exports(dense, options, others)
    assert [job.way for job in jobs] == ["separate", "separate", "together", "shared", "mapped", "selector"]
    assert [len(job.files) for job in jobs] == [1, 1, 2, 4, 4, 1]
    options = dataclasses.replace(options, batch_sizes=(1,))
    report = run_jobs(jobs_of_exports(dense, options, others), options)
    assert [m.switch_ms is not None for m in report.measurements] == [False, False, True, True, True, True]
    of_onnxruntime = ["reload", "together", "shared", "mapped", "selector"]
    assert [way.name for way in ways_of(report.measurements)] == of_onnxruntime
    screen = Console(file=StringIO(), width=100)
    screen.print(bench_tables(report))
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "for requests that alternate between tasks: " in shown
    assert all(name in shown for name in of_onnxruntime)


def test_available_memory(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  100 kB\nMemAvailable:   42 kB\n")
    assert available_bytes(meminfo) == 42 * 1024
    meminfo.write_text("MemTotal:  100 kB\n")
    assert available_bytes(meminfo) is None
    assert available_bytes(tmp_path / "gone") is None
