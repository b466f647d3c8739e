"""The command group, loaded lazily, and the one place where errors become lines and exit codes.

Exit codes: 0 ok, 1 a check failed, 2 usage, 3 environment, 4 artefact damaged or incompatible, 130 interrupted,
143 terminated.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from packnet_deploy.errors import EnvironmentFault, PackNetError, Terminated, missing_package, printable
from packnet_deploy.version import __version__

# name: (module, the help's first line, repeated here so that `packnet --help` loads no command; a test compares them)
COMMANDS = {
    "train": ("train", "Train tasks into a pack: a recipe, one task, or the built-in quickstart."),
    "inspect": ("inspect", "Show what a pack, an ONNX file or a TensorRT plan holds."),
    "verify": ("verify", "Check a pack: every hash, the frozen weights, every task's logits in ONNX Runtime."),
    "export": ("export", "Write tasks as ONNX files, each checked against the pack."),
    "build": ("build", "Build TensorRT engines that can be switched between the tasks of a pack."),
    "predict": ("predict", "Say what tasks take images for."),
    "eval": ("evaluate", "Measure how often a task is right, in ONNX Runtime or TensorRT."),
    "bench": ("bench", "Measure latency, throughput, memory and switching time of tasks."),
    "doctor": ("doctor", "Show what this machine can build and run, and what would fix each gap."),
    "gpu-report": ("gpu_report", "Check and measure everything that takes a GPU, and write it to DIR."),
    "delta": ("delta", "Move one task between packs as a single file."),
    "experiment": ("experiment", "Run what an experiment's recipe asks for and is not done yet."),
    "report": ("report", "Write an experiments folder's tables and figures as HTML and Markdown."),
    "demo": ("demo", "Train, verify, export and measure the quickstart, in a folder of its own."),
}
EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "onnxscript": "train",
    "sklearn": "train",
    "scipy": "train",
    "torch_pruning": "filters",
    "matplotlib": "train",
    "tomli": "train",
    "tomli_w": "train",
    "PIL": "images",
    "cuda": "rtx",
}
INTERRUPTED = 130
TERMINATED = 143


class LazyGroup(click.Group):
    """A group that knows its commands' names and help lines, and imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"packnet_deploy.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Terminated:  # which click, one level up, would take for Ctrl-C
            return _terminated()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}; there are: {', '.join(COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, message="packnet-deploy %(version)s")
def app(verbose: bool) -> None:
    """Many vision tasks in one set of weights (PackNet): train them into a pack, ship them as ONNX."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit the process."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a class name beyond the terminal's letters is no reason to stop
    # Pillow's warning of large images: our own limit lies close to it, and what is beyond it is refused in one line.
    warnings.filterwarnings("ignore", message="Image size .* could be decompression bomb")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(arguments))


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def run(arguments: list[str]) -> int:
    """Run a command line; returns its exit code. Errors become one line on stderr, no arguments ask for help."""
    try:
        result: Any = app.main(arguments or ["--help"], prog_name="packnet", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except Terminated:
        return _terminated()
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted; nothing half-written was left behind", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as after `| head`: it has seen what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (PackNetError, click.ClickException, OSError, ModuleNotFoundError) as error:
        if _verbose(arguments):
            traceback.print_exc()
        return _fail(*_described(error))


def _described(error: Exception) -> tuple[str, int]:
    if isinstance(error, PackNetError):
        return str(error), error.exit_code
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f"; see: {context.command_path} --help" if context else ""
        return " ".join(error.format_message().split()).rstrip(".") + hint, 2
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise error
        missing = missing_package(package, EXTRAS[package], "this command")
        return str(missing), missing.exit_code
    assert isinstance(error, OSError)
    if error.errno == errno.ENOSPC:
        folder = os.path.dirname(os.fspath(error.filename or "")) or "."
        left = f"{shutil.disk_usage(folder).free / 1e6:,.0f} MB free there" if os.path.isdir(folder) else "a full disk"
        what = f"{error.filename}: no room for it" if error.filename else "no room for what was to be written"
        return f"{what}: {error.strerror}, {left}; free some, or write elsewhere", EnvironmentFault.exit_code
    return f"{error.filename or 'a file'}: {error.strerror or error}", EnvironmentFault.exit_code


def _terminated() -> int:
    return _fail("terminated; nothing half-written was left behind", TERMINATED)


def _verbose(arguments: list[str]) -> bool:
    return bool(arguments) and arguments[0] in ("-v", "--verbose")


def _fail(message: str, code: int) -> int:
    print(f"packnet: {printable(message)}", file=sys.stderr)
    return code
