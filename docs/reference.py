"""Two pages of the site that nobody writes: the command line, from click, and Python, from every package's door.

A hook of MkDocs (mkdocs.yml). Public names are found in the doors' sources, so that building the site imports neither
PyTorch nor TensorRT; what they are is read from their docstrings by mkdocstrings.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "packnet_deploy"
# In the order in which a user meets them; what the command line and the reports are made of is nobody's interface.
DOORS = ("predict", "pack", "data", "training", "export", "runners", "trt", "bench", "experiments", "doctor")


def on_files(files: Any, config: Any) -> Any:
    """MkDocs asks for the site's files: give it the two pages as well."""
    from mkdocs.structure.files import File

    for name, content in (("cli.md", command_line()), ("api.md", python())):
        files.append(File.generated(config, name, content=content))
    return files


def command_line() -> str:
    """Every command's help, as a terminal of 100 columns shows it."""
    pages = [
        "# Command line\n\n"
        "What `packnet COMMAND --help` prints. Exit codes are in [training.md](training.md#exit-codes).\n"
    ]
    for names, command in commands():
        context = click.Context(
            command, info_name=" ".join(("packnet", *names)), max_content_width=100, terminal_width=100
        )
        pages.append(f"## packnet {' '.join(names)}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(pages)


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command, and the commands of those that are groups."""
    from packnet_deploy.cli.app import app

    context = click.Context(app)
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        yield (name,), command
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                yield (name, inner), command.commands[inner]


def python() -> str:
    """Every public name of every door, in the order the door has them."""
    pages = [
        "# Python\n\nEach package's `__init__` lists its files and its public names; these are those names. "
        "`packnet_deploy.load` is the shortest way in ([predicting.md](predicting.md)).\n"
    ]
    for door in DOORS:
        pages.append(f"## packnet_deploy.{door}\n")
        pages += [f"::: packnet_deploy.{door}.{module}.{name}\n" for module, name in public_names(PACKAGE / door)]
    return "\n".join(pages)


def public_names(folder: Path) -> list[tuple[str, str]]:
    """The file and the name of everything public in a package, read from its door."""
    lazy = folder / "__init__.pyi"
    door = ast.parse((lazy if lazy.exists() else folder / "__init__.py").read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(door):
        if isinstance(node, ast.ImportFrom) and node.module and (node.level == 1 or "packnet_deploy" in node.module):
            module = node.module.removeprefix(f"packnet_deploy.{folder.name}.")
            found += [(module, alias.name) for alias in node.names if not module.startswith("packnet_deploy")]
    return found
