"""``packnet build``, and ``inspect`` and ``verify`` of a plan, on a machine without a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from packnet_deploy.trt import build as building
from packnet_deploy.trt import engine as running

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'packnet-deploy[rtx]'")

pytestmark = pytest.mark.tensorrt
Packnet = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "find_gpu", lambda index=0: None)
    monkeypatch.setattr("packnet_deploy.trt.gpu.find_gpu", lambda index=0: None)
    assert running.expect_gpu  # which asks the one above


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_one_plan_for_all_tasks_by_default_under_the_packs_name(packnet: Packnet, here: Path) -> None:
    built = packnet("build", "--switch", "bind", "--backend", "tensorrt-rtx")
    assert built.code == 0, built.err
    assert names(here) == {"golden.pack", "golden.plan", "golden.plan.json"}
    assert "shapes" in built.out
    assert "not run: there is no GPU here" in built.out
    shown = packnet("inspect", "golden.plan")
    assert "bind" in shown.out
    assert "without a GPU" in shown.out
    about = json.loads(packnet("inspect", "golden.plan", "--json").out)
    assert (about["kind"], about["fits"], about["sidecar"]["switch"]) == ("plan", True, "bind")


def test_a_plan_for_each_task(packnet: Packnet, here: Path) -> None:
    rtx = ("--switch", "none", "--backend", "tensorrt-rtx", "--compute-capability", "8.6")
    assert packnet("build", *rtx, "--task", "shapes").code == 0
    assert names(here) == {"golden.pack", "shapes.plan", "shapes.plan.json"}
    built = packnet("build", *rtx, "--all-tasks", "-o", "plans", "--json")
    assert built.code == 0, built.err
    reports = json.loads(built.out)["plans"]
    assert [Path(report["plan"]).parent for report in reports] == [Path("plans")] * len(reports)
    assert [report["sidecar"]["tasks"][0]["index"] for report in reports] == list(range(1, len(reports) + 1))
    assert len(names(here / "plans")) == 2 * len(reports)


def test_what_goes_wrong_is_one_line_and_leaves_nothing(packnet: Packnet, here: Path) -> None:
    for code, text, *arguments in (
        (3, "a GPU is needed to build refittable engines"),
        (2, "--task, --all-tasks: a plan with switch bind holds all", "--switch", "bind", "--all-tasks"),
        (2, "expected either --task NAME or --all-tasks", "--switch", "none"),
        (2, "switch: expected one of", "--switch", "swap"),
        (2, "batch: expected 1 <= min", "--min-batch", 9),
        (2, "sparsity require", "--switch", "bind", "--sparsity", "require"),
        (2, "a tensorrt plan fits the GPU", "--backend", "tensorrt", "--compute-capability", "8.6"),
        (3, "no such folder", "--switch", "bind", "-o", "a/b.plan"),
    ):
        backend = () if "--backend" in arguments else ("--backend", "tensorrt-rtx")
        result = packnet("build", *backend, *arguments)
        assert (result.code, text in result.err) == (code, True), result.err
        assert result.err.count("\n") == 1
    assert names(here) == {"golden.pack"}


def test_a_dry_run_shows_marks_and_memory(packnet: Packnet, here: Path) -> None:
    shown = packnet("build", "--dry-run", "--backend", "tensorrt-rtx")
    assert shown.code == 0, shown.err
    assert "fire.expand.weight" in shown.out
    assert "what tensorrt-rtx" in shown.out
    found = json.loads(packnet("build", "--dry-run", "--json", "--backend", "tensorrt-rtx").out)
    assert {one["marked"] for one in found["weights"]} == {True}
    assert {way["switch"] for way in found["ways"]} == {"refit", "bind", "selector", "none"}
    assert names(here) == {"golden.pack"}


def test_running_a_plan_needs_a_gpu(packnet: Packnet, here: Path) -> None:
    assert packnet("build", "--switch", "bind", "--backend", "tensorrt-rtx").code == 0
    refused = packnet("verify", "--plan", "golden.plan")
    assert (refused.code, "needs an NVIDIA GPU" in refused.err) == (3, True)
    assert packnet("verify", "--plan", "golden.plan", "--against", "onnxrt").code == 2


def test_inspect_sees_through_plans_that_do_not_fit(packnet: Packnet, here: Path) -> None:
    assert packnet("build", "--switch", "bind", "--backend", "tensorrt-rtx").code == 0
    plan, sidecar = here / "golden.plan", here / "golden.plan.json"
    plan.write_bytes(plan.read_bytes() + b"x")
    shown = packnet("inspect", "golden.plan")
    assert "ITS SIDECAR IS OF ANOTHER PLAN" in shown.out
    sidecar.write_text(sidecar.read_text().replace('"switch": "bind"', '"switch": "swap"'))
    assert packnet("inspect", "golden.plan").code == 4
    sidecar.unlink()
    assert "no sidecar beside it" in packnet("inspect", "golden.plan").out
