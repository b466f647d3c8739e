"""Requests that carry their task, several at once. On stand-ins for TensorRT and the GPU (stand_in.py)."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from stand_in_engines import Bench

from packnet_deploy.errors import UsageError
from packnet_deploy.export.options import ExportOptions
from packnet_deploy.trt.bank import load_engine_bank
from packnet_deploy.trt.placement import sizes_of


def test_a_request_carries_its_task(bench: Bench) -> None:
    with bench.load("bind") as engine:
        for task in ("two", "three", "one", "one"):
            expected = bench.pack.load_task(task).probe_logits
            np.testing.assert_allclose(engine.infer(bench.images, task), expected, rtol=1e-4, atol=1e-4)
        engine.set_task("two")
        engine.infer(bench.images, task="one")
        assert engine.task == "two"
        bench.expect(engine, "two")
        with pytest.raises(UsageError, match="expected one of one, two, three, got 'four'"):
            engine.infer(bench.images, task="four")


def test_a_resident_task_is_not_switched_to_again(bench: Bench) -> None:
    with bench.load("bind", resident=2) as engine:
        for task in ("one", "two"):
            engine.infer(bench.images, task)
        for device in bench.devices:
            device.log.clear()
        for task in ("two", "one", "one", "two"):
            expected = bench.pack.load_task(task).probe_logits
            np.testing.assert_allclose(engine.infer(bench.images, task), expected, rtol=1e-4, atol=1e-4)
        assert not any("write" in entry for device in bench.devices for entry in device.log)
        engine.infer(bench.images, "three")  # takes the place of the one that was idle for longest
        assert [any("write" in entry for entry in device.log) for device in bench.devices] == [True, False]


def test_each_resident_task_costs_a_model(bench: Bench) -> None:
    taken = {}
    for resident in (1, 3):
        with bench.load("bind", resident=resident):
            taken[resident] = sum(device.allocated for device in bench.devices)
    sizes = sizes_of(load_engine_bank(bench.pack, ExportOptions().target(bench.pack)))
    requests = 4 * 4 * (3 * 5 * 6 + 4)
    assert taken[3] - taken[1] == 2 * (sizes.buffer + requests)


@pytest.mark.parametrize("switch", ["selector", "none", "bind"])
def test_requests_run_side_by_side(bench: Bench, switch: str) -> None:
    """Two threads are inside the engine at the same time, each on a stream of its own, and each gets its task's."""
    with bench.load(switch, resident=2) as engine:
        tasks = ("one", "one") if switch == "none" else ("one", "two")
        meet = threading.Barrier(2, timeout=60)
        for device in bench.devices:
            device.before_run = meet.wait
        got: dict[int, np.ndarray] = {}

        def work(place: int) -> None:
            got[place] = engine.infer(bench.images, tasks[place])

        threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for place, task in enumerate(tasks):
            expected = bench.pack.load_task(task).probe_logits
            np.testing.assert_allclose(got[place][:, : expected.shape[1]], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("switch", "resident"), [("refit", 2), ("bind", 0)])
def test_how_many_can_be_resident(bench: Bench, switch: str, resident: int) -> None:
    with pytest.raises(UsageError, match=f"resident: expected .*1.*, got {resident}"):
        bench.load(switch, resident=resident)


def test_threads_that_share_an_engine_never_meet_half_way(bench: Bench) -> None:
    """Two threads switch and infer; whatever task a request meets, its logits are that task's and none in between."""
    failures: list[str] = []
    with bench.load("bind") as engine:
        known = {}
        for task in ("two", "three"):
            engine.set_task(task)
            known[task] = engine.infer(bench.images)

        def work(task: str) -> None:
            for _ in range(30):
                engine.set_task(task)
                logits = engine.infer(bench.images)
                if not any(logits.shape == k.shape and np.allclose(logits, k, atol=1e-5) for k in known.values()):
                    failures.append(task)

        threads = [threading.Thread(target=work, args=(task,)) for task in known]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
