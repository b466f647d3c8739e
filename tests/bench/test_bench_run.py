"""A whole benchmark run in its real processes: what is measured, and what becomes of failures."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from packnet_deploy import fresh
from packnet_deploy.bench import run as running
from packnet_deploy.bench.job import Job, jobs_of_exports
from packnet_deploy.bench.options import BenchOptions
from packnet_deploy.bench.run import run_bench, run_job
from packnet_deploy.errors import ArtefactError, EnvironmentFault, PackNetError, UsageError

Models = dict[str, Path]
QUICK = BenchOptions(batch_sizes=(1,), repeats=1, warmup=0, threads=1, device="cpu")


def write(path: Path, body: str, weights: np.ndarray | None = None) -> Path:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "x" : 1]> g {body}')
    if weights is not None:
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "weight"))
    onnx.save(model, path)
    return path


def test_each_task_alone_and_then_all_together(models: Models, options: BenchOptions) -> None:
    jobs = jobs_of_exports(models, options)
    birds, flowers, data = (
        str(models["birds"].parent / name) for name in ("birds.onnx", "flowers.onnx", "flowers.data")
    )
    assert [(job.way, job.models, job.files) for job in jobs] == [
        ("separate", {"birds": birds}, (birds,)),
        ("separate", {"flowers": flowers}, (flowers, data)),
        ("together", {"birds": birds, "flowers": flowers}, (birds, flowers, data)),
    ]


def test_one_task_is_not_measured_twice(models: Models, options: BenchOptions) -> None:
    assert [job.way for job in jobs_of_exports({"birds": models["birds"]}, options)] == ["separate"]


def test_a_file_that_several_tasks_share_counts_once(models: Models, options: BenchOptions) -> None:
    same = {"birds": models["flowers"], "flowers": models["flowers"]}
    assert len(jobs_of_exports(same, options)[-1].files) == 2


def test_a_run_measures_every_task_at_every_batch_size(models: Models, options: BenchOptions) -> None:
    told: list[tuple[int, int, str]] = []
    report = run_bench(models, options, lambda done, jobs, job: told.append((done, jobs, job.way)))
    assert told == [(0, 3, "separate"), (1, 3, "separate"), (2, 3, "together")]
    assert [(m.way, m.tasks) for m in report.measurements] == [
        ("separate", ("birds",)),
        ("separate", ("flowers",)),
        ("together", ("birds", "flowers")),
    ]
    sizes = {task: path.stat().st_size for task, path in models.items()}
    sizes["flowers"] += models["flowers"].with_suffix(".data").stat().st_size
    assert [m.file_bytes for m in report.measurements] == [sizes["birds"], sizes["flowers"], sum(sizes.values())]
    for measured in report.measurements:
        assert measured.load_ms > 0
        assert measured.providers == dict.fromkeys(measured.tasks, "CPUExecutionProvider")
        assert [(row.batch, row.task) for row in measured.latencies] == [
            (batch, task) for batch in options.batch_sizes for task in measured.tasks
        ]
        for row in measured.latencies:
            timing = row.timing
            assert timing.runs == options.repeats
            assert 0 < timing.p50_ms <= timing.p90_ms <= timing.p99_ms
            # The mean is no longer than the slowest run, which is the p99 of 12.
            assert timing.images_per_s > 0.999e3 * row.batch / timing.p99_ms


@pytest.mark.skipif(sys.platform == "win32", reason="resident memory is not measured on Windows")
def test_weights_show_in_the_memory(tmp_path: Path) -> None:
    weights = np.ones((1024, 8192), np.float32)  # 32 MiB
    body = (
        "(float[n, 8192, 1, 1] images) => (float[n, 1024] logits)"
        " { features = Flatten(images) logits = Gemm<transB = 1>(features, weight) }"
    )
    paths = {task: write(tmp_path / f"{task}.onnx", body, weights) for task in "ab"}
    one, two = (jobs_of_exports({task: paths[task] for task in tasks}, QUICK)[-1] for tasks in ("a", "ab"))
    alone, together = run_job(one).load_memory_bytes, run_job(two).load_memory_bytes
    assert alone is not None
    assert together is not None
    assert alone > 0.9 * weights.nbytes
    assert together > 1.8 * weights.nbytes


def test_it_runs_without_torch(models: Models, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "torch.py").write_text("raise ImportError('torch is blocked')")  # in the workers, too
    script = (
        "import sys, json; from pathlib import Path;"
        "from packnet_deploy.bench.run import run_bench; from packnet_deploy.bench.options import BenchOptions;"
        "from packnet_deploy.bench.table import bench_tables;"
        "models = {'birds': Path(sys.argv[1]), 'flowers': Path(sys.argv[2])};"
        "report = run_bench(models, BenchOptions(batch_sizes=(1,), repeats=1, device='cpu'));"
        "bench_tables(report); report.to_csv(); print(json.dumps(report.to_json()));"
        "import importlib.util; assert importlib.util.find_spec('torch').origin.startswith(sys.path[1])"
    )
    paths = os.pathsep.join([str(blocked), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, models.values())],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"together"' in done.stdout


def test_a_models_error_keeps_its_class_and_names_the_file(tmp_path: Path) -> None:
    body = "(float[n, 3, 8, 8] images) => (float[n, 2] logits) { logits = x.NoSuchOperator(images) }"
    path = write(tmp_path / "odd.onnx", body)
    with pytest.raises(ArtefactError, match=r"^bench, separate, birds: .*odd\.onnx: .*'x\.NoSuchOperator'") as caught:
        run_bench({"birds": path}, QUICK)
    assert "\n" not in str(caught.value)
    assert "Traceback" in str(caught.value.__cause__)


def test_a_model_whose_image_size_is_open_is_refused(tmp_path: Path) -> None:
    body = "(float[n, 3, h, w] images) => (float[n, 3] logits) { p = GlobalAveragePool(images) logits = Flatten(p) }"
    with pytest.raises(UsageError, match="task 'birds': its model leaves the size of its images open"):
        run_bench({"birds": write(tmp_path / "open.onnx", body)}, QUICK)


def test_a_batch_size_the_model_does_not_take_is_refused(tmp_path: Path) -> None:
    body = "(float[3, 3, 8, 8] images) => (float[3, 3] logits) { p = GlobalAveragePool(images) logits = Flatten(p) }"
    path = write(tmp_path / "fixed.onnx", body)
    options = dataclasses.replace(QUICK, batch_sizes=(3, 2))
    with pytest.raises(UsageError, match=r"expected float32 \[3, 3, 8, 8\], got float32 \[2, 3, 8, 8\]"):
        run_bench({"birds": path}, options)


def test_requests_that_cannot_be_met_start_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "run_job", lambda job: pytest.fail("started"))
    with pytest.raises(UsageError, match="at least one"):
        run_bench({})
    with pytest.raises(EnvironmentFault, match=r"gone\.onnx"):
        run_bench({"birds": tmp_path / "gone.onnx"})


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", EnvironmentFault, "was ended by SIGKILL, which is how a system short"),
        ("raise SystemExit('no luck')", EnvironmentFault, r"exit code 1 and no answer \(no luck\)"),
        (
            "from packnet_deploy import fresh; from packnet_deploy.bench import worker; "
            "worker.measure = lambda job: [][1]; fresh.main()",
            PackNetError,
            "birds: IndexError: list index out of range",
        ),
    ],
)
def test_a_worker_that_fails_is_one_line(
    models: Models, monkeypatch: pytest.MonkeyPatch, start: str, error: type[PackNetError], message: str
) -> None:
    monkeypatch.setattr(fresh, "START", start)
    with pytest.raises(error, match=message) as caught:
        run_job(jobs_of_exports(models, QUICK)[0])
    assert "\n" not in str(caught.value)


def test_what_libraries_print_does_not_reach_the_answer(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = (
        "import os; from packnet_deploy.bench import worker; measure = worker.measure\n"
        "def loud(job): print('hello'); os.write(1, b'hello'); return measure(job)\n"
        "worker.measure = loud; "
    )
    monkeypatch.setattr(fresh, "START", fresh.START.replace("from packnet", noisy + "from packnet", 1))
    job: Job = jobs_of_exports(models, QUICK)[0]
    assert run_job(job).tasks == ("birds",)


def test_the_worker_imports_from_where_this_process_does(
    models: Models, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "only_on_this_path.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        fresh, "START", fresh.START.replace("from packnet", "import only_on_this_path; from packnet", 1)
    )
    assert run_job(jobs_of_exports(models, QUICK)[0]).tasks == ("birds",)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the worker in Linux' /proc")
def test_ctrl_c_ends_the_worker(models: Models) -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from packnet_deploy.bench.run import run_bench; from packnet_deploy.bench.options import BenchOptions;"
        "run_bench({'birds': Path(sys.argv[1])}, BenchOptions(repeats=10**9, seconds=100.0, device='cpu'))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", script, str(models["birds"])]
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as bench:
        children = Path(f"/proc/{bench.pid}/task/{bench.pid}/children")
        worker = wait_for(lambda: children.read_text().split())[0]
        bench.send_signal(signal.SIGINT)  # to it alone, as the harder case: a terminal tells the worker as well
        assert bench.wait(timeout=10) != 0
    wait_for(lambda: not Path(f"/proc/{worker}").exists())


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """The condition's first true answer."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return answer
