"""Every way to switch × where the bank lies × batches × CUDA graphs × precision: right, how fast, how much memory.

``grid`` and ``switches`` are sections of the GPU report; ``folder`` is for packs and plans.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product
from pathlib import Path

import numpy as np

from packnet_deploy.bench.timing import percentile
from packnet_deploy.gpu_report.engines import LARGE, MB, installed, large
from packnet_deploy.gpu_report.section import Cell, Section
from packnet_deploy.gpu_report.sheet import Sheet
from packnet_deploy.pack import Pack
from packnet_deploy.runners.comparison import Difference, worst
from packnet_deploy.runners.contract import Float32Array
from packnet_deploy.trt.bank import load_engine_bank
from packnet_deploy.trt.build import build_plan, build_plans
from packnet_deploy.trt.check import engine_tolerance, target_of, verify_engine
from packnet_deploy.trt.engine import Engine
from packnet_deploy.trt.options import BuildOptions
from packnet_deploy.trt.placement import sizes_of
from packnet_deploy.trt.sidecar import sidecar_path

PRECISIONS = ("fp16", "fp32")
RESIDENT = "resident"  # every task in a buffer of its own
CHANNELS_LAST = "bind, channels last"  # --switch bind --channels-last
PLACES = {
    "none": ("",),
    "bind": ("host",),
    CHANNELS_LAST: ("host", "device", RESIDENT),
    "refit": ("host", "device"),
    "selector": ("", RESIDENT),
}
BATCHES = {"1": (1, 1), "1 to 8": (1, 8)}  # fixed, and dynamic
DYNAMIC = "1 to 8"
RUNS = 100  # of a batch
SWITCHES = 30  # of each from one task to another

WAY = ("backend", "precision", "switch", "bank")
RIGHT, FAST = ("largest difference", "allowed"), ("from host p50, ms", "GPU p50, ms", "GPU p99, ms")
GRID = (*WAY, "batch", "graph", *RIGHT, *FAST, "GPU memory, MB", "one model, MB")


@dataclass(frozen=True)
class Way:
    """One row's engine."""

    backend: str
    precision: str
    switch: str
    bank: str
    batch: str = DYNAMIC
    graph: bool = False


def grid(folder: Path, sheet: Sheet) -> Section:
    """Are they right, how fast, and how much memory does each take?"""
    ways = [
        Way(backend, precision, switch, bank, batch, graph)
        for backend, precision, batch, graph in product(installed(), PRECISIONS, BATCHES, (False, True))
        for switch, places in PLACES.items()
        for bank in places
    ]
    rows = [
        sheet.row(
            (way.backend, way.precision, way.switch, way.bank, way.batch, "yes" if way.graph else "no"),
            GRID,
            partial(_of_grid, folder, way),
        )
        for way in ways
    ]
    return Section(
        "Engines",
        f"{LARGE}, three tasks: each engine is switched to every task and back and its logits held against the pack's; "
        "latencies of one image, from and to the host, and by the GPU's own events; memory as the driver counts it, "
        "all tasks together (for none: a plan for each). Bank: where it lies, or every task in a buffer of its own.",
        GRID,
        tuple(rows),
    )


def switches(folder: Path, sheet: Sheet) -> Section:
    """What does a switch take, from each task to each other?"""
    pairs = list(permutations(range(1, 4), 2))
    columns = (*WAY, "all weights, ms", *(f"{i} to {j}, {p}" for i, j in pairs for p in ("p50", "p99")))
    rows = [
        sheet.row((backend, precision, switch, bank), columns, partial(_of_switches, folder, way))
        for backend, precision in product(installed(), PRECISIONS)
        for switch, places in PLACES.items()
        for bank in places
        if switch != "none"
        for way in (Way(backend, precision, switch, bank),)
    ]
    return Section(
        "Switches",
        f"{LARGE}, three tasks that have 25 %, 19 % and 56 % of the weights: milliseconds of the call that makes an "
        "engine another task, the GPU at rest before and after, by the tasks' numbers. All weights: the first switch "
        "of an engine, which a refit gives everything.",
        columns,
        tuple(rows),
    )


@contextmanager
def opened(folder: Path, way: Way) -> Iterator[Mapping[str, Engine]]:
    """The engine of each task of ``large``; for all but none the same."""
    pack = large(folder)
    tasks = [entry.name for entry in pack.tasks]
    load = partial(
        Engine.load,
        pack=pack,
        bank="device" if way.bank == "device" else "host",
        resident=len(tasks) if way.bank == RESIDENT else 1,
        cuda_graph=way.graph,
    )
    with ExitStack() as held:
        plans = _plans(folder, pack, way)
        engines = {path: held.enter_context(load(path)) for path in dict.fromkeys(plans.values())}
        yield {task: engines[path] for task, path in plans.items()}


def _plans(folder: Path, pack: Pack, way: Way) -> dict[str, Path]:
    """The plan of each task, built where it is not there yet."""
    least, most = BATCHES[way.batch]
    options = BuildOptions(
        backend=way.backend,
        switch=way.switch.partition(",")[0],
        precision=way.precision,
        min_batch=least,
        max_batch=most,
        channels_last=way.switch == CHANNELS_LAST,
        verify=False,
    )
    stem = f"{way.backend}-{way.precision}-{way.switch.replace(', ', '-').replace(' ', '-')}-{most}"
    names = [entry.name for entry in pack.tasks]
    plans = {name: folder / f"{stem}{f'-{name}' if way.switch == 'none' else ''}.plan" for name in names}
    if not all(sidecar_path(path).exists() for path in plans.values()):
        if way.switch == "none":
            build_plans(pack, plans, options)
        else:
            build_plan(pack, plans[names[0]], options)
    return plans


def _of_grid(folder: Path, way: Way) -> tuple[Cell, ...]:
    with opened(folder, way) as engines:
        found = _checked(engines, large(folder))
        name, engine = next(iter(engines.items()))
        image = np.random.default_rng(0).standard_normal((1, *engine.sidecar.input.shape), np.float32)
        from_host = _timed(lambda: engine.infer(image, name))
        on_gpu = [engine.time_again() for _ in range(3 + RUNS)][3:]
        memory = sum(each.device_bytes for each in dict.fromkeys(engines.values()))
        notes = " ".join(engine.notes)
    latencies = (1e3 * percentile(from_host, 50), percentile(on_gpu, 50), percentile(on_gpu, 99))
    worst_of_all = f"{found[0]:.2g}{f' ({notes})' if notes else ''}"
    return (worst_of_all, found[1], *latencies, memory / MB, model_megabytes(folder, way.precision))


def _checked(engines: Mapping[str, Engine], pack: Pack) -> tuple[float, float]:
    """The largest difference of logits from the pack's, and what is allowed; raises ``CheckFailed`` beyond that."""
    found: list[Difference] = []
    for engine in dict.fromkeys(engines.values()):
        rtol = engine_tolerance(engine.sidecar, pack)
        found += verify_engine(engine, pack, engine.tasks, target_of(engine.sidecar), Path(LARGE), rtol).values()
    most = worst(found)
    assert most is not None
    return most.max_difference, most.allowed


def _of_switches(folder: Path, way: Way) -> tuple[Cell, ...]:
    with opened(folder, way) as engines:
        names, engine = list(engines), next(iter(engines.values()))
        everything = _seconds(lambda: engine.set_task(names[0]))
        cells: list[Cell] = [1e3 * everything]
        for source, target in permutations(names, 2):
            times = []
            for _ in range(2 + SWITCHES):
                engine.set_task(source)
                times.append(_seconds(partial(engine.set_task, target)))
            cells += [1e3 * percentile(times[2:], percent) for percent in (50, 99)]
    return tuple(cells)


def _timed(call: Callable[[], Float32Array]) -> Sequence[float]:
    return [_seconds(call) for _ in range(3 + RUNS)][3:]


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def model_megabytes(folder: Path, precision: str) -> float:
    """One task's weights of ``large``."""
    pack = large(folder)
    options = BuildOptions(precision=precision)
    return sizes_of(load_engine_bank(pack, options.target(pack))).model / MB
