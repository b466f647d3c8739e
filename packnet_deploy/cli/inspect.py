"""``packnet inspect``: what description.py found in a path, for the terminal."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from packnet_deploy.cli.coming import command_line, print_next
from packnet_deploy.cli.show import console, say_json

if TYPE_CHECKING:
    from rich.console import Console

    from packnet_deploy.trt.inspection import Layer

POINT = 0.01  # shares that differ by less are shown as one


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--layers",
    is_flag=True,
    help="Of a pack: every layer by itself. Of a plan, on a GPU that it fits: its layers and their kernels.",
)
@click.option(
    "--pack", type=click.Path(path_type=Path), help="Of a plan's --layers: its pack; runs it and times each layer."
)
@click.option("--device", default="cuda", show_default=True, help="That GPU: cuda, the first, or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(path: Path, layers: bool, pack: Path | None, device: str, as_json: bool) -> None:
    """Show what a pack, an ONNX file or a TensorRT plan holds.

    Also a task delta outside a pack.
    A pack: its tasks, who owns how much of every layer, bytes and hashes. Its deltas are hashed and checked on the way.
    """
    from packnet_deploy.cli.description import describe

    description = describe(path)
    if layers and description["kind"] != "pack":
        description = _with_layers(path, description, pack, device)
    elif pack is not None:
        from packnet_deploy.errors import UsageError

        raise UsageError("--pack: only a plan's --layers takes it; leave it out")
    if as_json:
        say_json(description)
        return
    screen, kind = console(), description["kind"]
    if kind == "pack":
        _print_pack(screen, description, layers)
    else:
        {"delta": _print_delta, "onnx": _print_onnx, "plan": _print_plan}[kind](screen, description)
    print_next(screen, *_next(path, description))


def _next(path: Path, about: dict[str, Any]) -> list[str]:
    match about["kind"]:
        case "pack" if about["tasks"]:
            last = about["tasks"][-1]["name"]
            return [
                command_line("predict", last, "IMAGE", pack=path),
                command_line("export", "--task", last, pack=path),
            ]
        case "pack":
            return [command_line("train", "--task", "NAME", "--data", "DIR", pack=path)]
        case "delta":
            return [command_line("delta apply", path, "--pack", "PACK", "--sha256", about["sha256"])]
        case "onnx":
            return [command_line("predict", about["metadata"].get("task", "TASK"), "IMAGE", "--onnx", path)]
    return [command_line("bench", path, "--pack", "PACK")]


def _with_layers(path: Path, description: dict[str, Any], pack: Path | None, device: str) -> dict[str, Any]:
    from packnet_deploy.errors import UsageError
    from packnet_deploy.trt.loader import layers_of_plan

    if description["kind"] != "plan":
        raise UsageError(f"--layers: expected a pack or a plan, got a {description['kind']}: {path}")
    layers = layers_of_plan(path, device) if pack is None else _timed_layers(path, pack, device)
    return description | {"layers": [asdict(layer) | {"sparse": layer.is_sparse} for layer in layers]}


def _timed_layers(plan: Path, pack: Path, device: str) -> tuple[Layer, ...]:
    import numpy as np

    from packnet_deploy.pack import Pack
    from packnet_deploy.trt.engine import Engine

    with Engine.load(plan, Pack.open(pack), device=device) as engine:
        size = (engine.sidecar.batch.best, *engine.sidecar.input.shape)
        engine.infer(np.random.default_rng(0).standard_normal(size, np.float32), engine.tasks[0])
        return engine.profile()


def _print_pack(screen: Console, about: dict[str, Any], every_layer: bool) -> None:
    from packnet_deploy.cli.show import percent, size, table

    side = "x".join(map(str, about["input"]["shape"]))
    screen.print(
        f"{about['path']}: {about['arch']}, input {side}, {about['weights']:,} packable weights, "
        f"{percent(about['free'] / about['room'])} free, {size(about['bytes'])}"
    )
    patterned = [layer for layer in about["layers"] if layer["pattern"]]
    if patterned:
        screen.print(
            f"{len(patterned)} of {len(about['layers'])} layers keep to 2:4, all tasks taken together: at most 2 of 4 "
            f"weights there can have an owner, {about['room']:,} in all. Shares below are of these."
        )
    tasks = table("Tasks", ("", "task"), ("classes", "weights", "share", "delta", "test\nerror", "sha256"))
    for task in about["tasks"]:
        tasks.add_row(
            str(task["index"]),
            task["name"],
            str(len(task["classes"])),
            f"{task['owned']:,}",
            percent(task["owned"] / about["room"]),
            size(task["bytes"]),
            percent(_test_error(task["report"])),
            task["sha256"][:12],
        )
    screen.print(tasks)
    _print_inputs(screen, about)
    names = tuple(task["name"] for task in about["tasks"])
    columns = ("layer", "pattern") if patterned else ("layer",)
    layers = table("Owners of each layer's weights", columns, ("weights", *names, "free"))
    for name, group in _alike(about["layers"], apart=every_layer):
        size_of_all, room = (sum(layer[key] for layer in group) for key in ("size", "room"))
        counts = zip(*((*layer["owned"], layer["free"]) for layer in group), strict=True)
        pattern = [group[0]["pattern"] or "dense"] if patterned else []
        layers.add_row(name, *pattern, f"{size_of_all:,}", *(percent(sum(count) / room) for count in counts))
    screen.print(layers)
    if layers.row_count < len(about["layers"]):
        screen.print("layers whose shares agree to a point stand together; each by itself: --layers")
    for name in about["unlisted_files"]:
        screen.print(f"not part of the pack: {name} (left by an interrupted write; it can be deleted)")


def _alike(layers: list[dict[str, Any]], apart: bool) -> list[tuple[str, list[dict[str, Any]]]]:
    """Neighbouring layers of the same pattern and, to a point, the same shares; each by itself where ``apart``."""
    groups: list[list[dict[str, Any]]] = []
    for layer in layers:
        if groups and not apart and _look_alike(groups[-1][0], layer):
            groups[-1].append(layer)
        else:
            groups.append([layer])
    return [
        (group[0]["name"] if len(group) == 1 else f"{group[0]['name']} … {group[-1]['name']} ({len(group)})", group)
        for group in groups
    ]


def _look_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    shares = zip(*([count / layer["room"] for count in layer["owned"]] for layer in (one, other)), strict=True)
    return one["pattern"] == other["pattern"] and all(abs(a - b) <= POINT for a, b in shares)


def _print_inputs(screen: Console, about: dict[str, Any]) -> None:
    """How images become the input, a line for every way that some of the tasks have."""
    ways: dict[str, list[str]] = {}
    for task in about["tasks"] or [{"name": "", "input": about["input"]}]:
        ways.setdefault(_way(task["input"]), []).append(task["name"])
    for way, names in ways.items():
        of = f" of {', '.join(names)}" if len(ways) > 1 else ""
        screen.print(f"images{of}: {way}", soft_wrap=not screen.is_terminal)


def _way(spec: dict[str, Any]) -> str:
    """An input description in words, docs/format.md's in its order."""
    side = "x".join(map(str, spec["shape"][1:]))
    steps = ["cut to their bounding boxes"] if spec["boxes"] else []
    steps += ["turned upright by EXIF"] if spec["exif_orientation"] else []
    steps += {
        "crop": [f"shorter side to {spec['resize']}, the middle {side} cut out"],
        "whole": [f"squashed to {side}"],
        "pad": [f"fitted into {side}, the rest filled with {spec['fill']}"],
    }[spec["framing"]]
    mean, std = (" ".join(f"{number:g}" for number in spec[key]) for key in ("mean", "std"))
    return f"{', '.join(steps)}, normalised by mean {mean}, std {std}"


def _test_error(report: dict[str, Any]) -> float | None:
    """The finished task's top-1 error on its test images, if the report has one; it may hold anything."""
    try:
        return float(report["errors"]["retrained"]["test"][0])
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def _print_delta(screen: Console, about: dict[str, Any]) -> None:
    from packnet_deploy.cli.show import size

    screen.print(
        f"{about['path']}: delta of task {about['task']!r}, number {about['index']} of its pack, "
        f"{len(about['classes'])} classes, {about['owned']:,} weights, {size(about['bytes'])}",
        soft_wrap=True,
    )
    way = "as the pack says" if about["input"] is None else _way(about["input"])
    screen.print(f"{'images':<12} {way}", soft_wrap=not screen.is_terminal)
    for key in ("sha256", "parent", "graph_sha256"):
        screen.print(f"{key:<12} {about[key] or 'none'}", soft_wrap=True)


def _print_onnx(screen: Console, about: dict[str, Any]) -> None:
    from packnet_deploy.cli.show import size

    opsets = ", ".join(f"{domain} {version}" for domain, version in about["opset"].items())
    line = f"{about['path']}: ONNX, opset {opsets}, {size(about['bytes'])}, sha256 {about['sha256']}"
    screen.print(line, soft_wrap=True)
    for kind in ("inputs", "outputs"):
        for name, shape in about[kind].items():
            screen.print(f"{kind[:-1]:<8} {name} {shape}")
    counts = ", ".join(f"{count} {name}" for name, count in about["operators"].items())
    screen.print(f"nodes    {counts}")
    screen.print(f"tensors  {about['tensors']} dense, {about['sparse_tensors']} sparse")
    for key, value in about["metadata"].items():
        screen.print(f"{key:<8} {value if len(value) <= 200 else value[:200] + ' …'}", soft_wrap=True)


def _print_plan(screen: Console, about: dict[str, Any]) -> None:
    from packnet_deploy.cli.show import size, table

    known = about["sidecar"]
    screen.print(f"{about['path']}: TensorRT plan, {size(about['bytes'])}, sha256 {about['sha256']}", soft_wrap=True)
    if known is None:
        screen.print("no sidecar beside it: which GPU, TensorRT version and pack it was built for cannot be told")
        return
    if not about["fits"]:
        screen.print(f"ITS SIDECAR IS OF ANOTHER PLAN, sha256 {known['plan_sha256']}: restore both, or build it again")
    gpu = f", on {known['gpu']['name']}" if known["gpu"] else ", without a GPU"
    batch, side = known["batch"], "x".join(map(str, known["input"]["shape"]))
    for name, text in {
        "built by": f"{known['flavour']} {known['tensorrt']}{gpu}",
        "runs on": f"compute capability {', '.join(known['compute_capabilities'])}",
        "switch": known["switch"],
        "images": f"{batch['least']} to {batch['most']} (best {batch['best']}) of {side}",
        "precision": known["precision"],
        "logits": known["classes"],
        "tasks": ", ".join(f"{task['name']} ({task['classes']} classes)" for task in known["tasks"]),
        "weights": f"{len(known['weights'])} change with the task" if known["weights"] else "none change with the task",
    }.items():
        screen.print(f"{name:<10} {text}", soft_wrap=True)
    _print_layers(screen, about.get("layers"))
    if not known["sparse_weights"]:
        eligible = sum(layer["eligible"] for layer in known["sparsity"])
        screen.print(f"sparsity   no sparse kernels ({eligible} of {len(known['sparsity'])} layers keep to 2:4)")
        return
    layers = table("Sparse kernels", ("layer", "may be sparse", "for later tasks too", "is sparse"), ())
    told = {None: "not told", True: "yes", False: ""}
    for layer in known["sparsity"]:
        layers.add_row(layer["name"], *(told[layer[key]] for key in ("eligible", "promised", "picked")))
    screen.print(layers)


def _print_layers(screen: Console, layers: list[dict[str, Any]] | None) -> None:
    from packnet_deploy.cli.show import percent, table

    if layers is None:
        return
    times = [layer["ms"] for layer in layers if layer["ms"] is not None]
    figures = ("ms", "share") if times else ()
    shown = table(f"{len(layers)} layers", ("layer", "kind", "kernel", "sparse"), figures)
    for layer in layers:
        ms = layer["ms"]
        figures = () if not times else ("", "") if ms is None else (f"{ms:.3g}", percent(ms / sum(times)))
        words = (layer["name"], layer["kind"], layer["tactic"] or "not told", "yes" if layer["sparse"] else "")
        shown.add_row(*words, *figures)
    screen.print(shown)
