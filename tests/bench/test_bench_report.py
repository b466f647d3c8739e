"""Options, and reports as JSON, CSV and terminal tables, from figures made up for the purpose."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest
from rich.console import Console

from packnet_deploy.bench.machine import Machine
from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.report import BenchReport, Latency, Measurement
from packnet_deploy.bench.table import bench_tables
from packnet_deploy.bench.timing import Timing
from packnet_deploy.errors import UsageError

CALM = Timing(runs=120, p50_ms=1.5, p90_ms=1.75, p99_ms=2.0, images_per_s=1234.5, unstable="")
SHAKY = Timing(runs=5, p50_ms=1500.0, p90_ms=1600.0, p99_ms=1700.0, images_per_s=21.0, unstable="few runs: 5, expected")
DRIFTING = dataclasses.replace(CALM, unstable="drift: slower")
CPU = "CPUExecutionProvider"


@pytest.fixture
def report() -> BenchReport:
    alone = Measurement(
        strategy="separate",
        tasks=("birds",),
        file_bytes=12_300_000,
        load_ms=45.0,
        load_memory_bytes=67_800_000,
        run_memory_bytes=-4096,
        providers={"birds": CPU},
        notes=("no CUDA",),
        latencies=(Latency("birds", 1, CALM), Latency("birds", 32, SHAKY)),
    )
    together = dataclasses.replace(
        alone,
        strategy="together",
        tasks=("birds", "flowers"),
        load_memory_bytes=None,
        run_memory_bytes=None,
        providers={"birds": "CUDAExecutionProvider", "flowers": CPU},
        latencies=(Latency("birds", 1, DRIFTING), Latency("flowers", 1, SHAKY)),
    )
    machine = Machine("Fast CPU", 2, 4, ("H200",), "Linux x86_64", {"python": "3.11"})
    return BenchReport(machine, BenchOptions(threads=2), (alone, together))


def test_a_measurement_survives_the_way_between_processes(report: BenchReport) -> None:
    for measured in report.measurements:
        assert Measurement.from_json(json.loads(json.dumps(dataclasses.asdict(measured)))) == measured


def test_json_holds_everything(report: BenchReport) -> None:
    value = json.loads(json.dumps(report.to_json()))
    assert value["machine"]["cpu"] == "Fast CPU"
    assert value["options"]["batch_sizes"] == [1, 8, 32]
    assert value["stable"] is False
    assert [Measurement.from_json(item) for item in value["measurements"]] == list(report.measurements)
    assert {"separate", "together", "latency"} <= value["definitions"].keys()


def test_a_report_is_stable_when_every_timing_is(report: BenchReport) -> None:
    calm = dataclasses.replace(report.measurements[0], latencies=(Latency("birds", 1, CALM),))
    assert dataclasses.replace(report, measurements=(calm,)).stable


def test_csv_has_a_line_for_each_timing(report: BenchReport) -> None:
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [(row["strategy"], row["task"], row["batch"], row["provider"]) for row in rows] == [
        ("separate", "birds", "1", CPU),
        ("separate", "birds", "32", CPU),
        ("together", "birds", "1", "CUDAExecutionProvider"),
        ("together", "flowers", "1", CPU),
    ]
    assert rows[0]["p50_ms"] == "1.5"
    assert rows[1]["unstable"] == "few runs: 5, expected"
    assert rows[1]["file_bytes"] == "12300000"
    assert rows[2]["load_memory_bytes"] == ""


def test_the_tables_fit_a_terminal_and_hide_no_doubt(report: BenchReport) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(bench_tables(report))
    text = console.export_text()
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "separate birds CPU 12.3 MB 45 ms 67.8 MB -0.0 MB" in lines
    assert "together all 2 CUDA, CPU 12.3 MB 45 ms n/a n/a" in lines
    assert "separate birds 1 120 1.5 1.75 2 1,234" in lines
    assert "separate birds 32 5 1,500 1,600 1,700 21 few runs" in lines
    assert "unstable: few runs: 5, expected; separate, birds, batch 32 (and 1 more)" in lines
    assert "unstable: drift: slower; together, birds, batch 1" in lines
    assert text.count("note: no CUDA") == 1
    assert "Fast CPU, 2 cores (4 threads usable); H200; Linux x86_64; python 3.11" in " ".join(lines)
    assert "threads of each session: 2" in " ".join(lines)


def test_every_option_explains_itself() -> None:
    assert all(field.metadata["help"] for field in dataclasses.fields(BenchOptions))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_sizes": ()},
        {"batch_sizes": (0, 1)},
        {"batch_sizes": (8, 8)},
        {"repeats": 0},
        {"seconds": 0.0},
        {"seconds": float("inf")},
        {"seconds": float("nan")},
        {"warmup": -1},
        {"threads": 0},
        {"seed": -1},
    ],
)
def test_options_out_of_range_are_named(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"^{name.replace('_', ' ')}: expected"):
        BenchOptions(**wrong)  # type: ignore[arg-type]
