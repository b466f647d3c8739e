"""Options, and reports as JSON, CSV and terminal tables, from figures made up for the purpose."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest
from rich.console import Console

from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.report import IN_TURN, NO_COPIES, BenchReport, Measurement
from packnet_deploy.bench.table import bench_tables
from packnet_deploy.errors import UsageError

CPU = "CPUExecutionProvider"


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
    calm = dataclasses.replace(report.measurements[0], latencies=report.measurements[0].latencies[:1])
    assert dataclasses.replace(report, measurements=(calm,)).stable


def test_csv_has_a_line_for_each_timing(report: BenchReport) -> None:
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [(row["way"], row["task"], row["batch"], row["provider"]) for row in rows] == [
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
    assert "birds 32 5 1,500 1,600 1,700 21 few runs" in lines
    assert "unstable: few runs: 5, expected; separate, birds, batch 32 (and 1 more)" in lines
    assert "unstable: drift: slower; together, birds, batch 1" in lines
    assert text.count("note: no CUDA") == 1
    assert "Fast CPU, 2 cores (4 threads usable); H200; Linux x86_64; python 3.11" in " ".join(lines)
    assert "threads of each session: 2" in " ".join(lines)


def test_engines_in_the_tables(engines: BenchReport) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(bench_tables(engines))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "refit tensorrt-rtx 120 0.75 0.875" in lines, "the switch alone"
    assert sum("45.6 MB" in line for line in lines) == 4, "of two engines, and of two ways"
    assert "no copies" in text
    assert "repeated" in text
    assert sum(line.startswith("birds 8 120 20 22 24") for line in lines) == 6, "each kind, without and with a graph"


def test_engines_survive_the_way_between_processes_and_into_csv(engines: BenchReport) -> None:
    refit = engines.measurements[-1]
    assert Measurement.from_json(json.loads(json.dumps(dataclasses.asdict(refit)))) == refit
    rows = list(csv.DictReader(io.StringIO(engines.to_csv())))
    assert {row["how"] for row in rows[:4]} == {IN_TURN}
    last = rows[-1]
    told = ("way", "backend", "cuda_graph", "how", "p50_ms", "switch_p50_ms", "switch_p99_ms", "gpu_memory_bytes")
    assert [last[name] for name in told] == [
        "refit", "tensorrt-rtx", "True", NO_COPIES, "20.0", "0.75", "0.875", "45600000"
    ]  # fmt: skip
    assert rows[0]["switch_p50_ms"] == ""


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
        {"backends": ("tensorflow",)},
        {"backends": ()},
        {"switch": ("refit", "swap")},
        {"precision": "int8"},
    ],
)
def test_options_out_of_range_are_named(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"^{name.replace('_', ' ')}: expected"):
        BenchOptions(**wrong)  # type: ignore[arg-type]
