"""``packnet experiment``: what is done, what is missing, and running that."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from packnet_deploy.cli.flags import complete_path
from packnet_deploy.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from packnet_deploy.experiments.design import Design, Run
    from packnet_deploy.experiments.folder import ExperimentsFolder
    from packnet_deploy.experiments.runner import Outcome

DATA_ROOT = "PACKNET_DATA"


def _complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The recipes that come with packnet-deploy, or a file."""
    from packnet_deploy.experiments.recipe import shipped_recipes

    named = [CompletionItem(name) for name in shipped_recipes() if name.startswith(begun)]
    return named + complete_path(context, parameter, begun)


@click.command()
@click.argument("recipe", required=False, shell_complete=_complete)
@click.option("--scale", default="paper", show_default=True, help="The recipe's settings to use: paper, small, ...")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="experiments",
    show_default=True,
    help="The folder of the runs; experiments kept in one folder share those they have in common.",
)
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help=f"Where the recipe's images and weights lie.  [default: ${DATA_ROOT}, or this folder]",
)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="How many runs at a time.")
@click.option("--dry-run", is_flag=True, help="List the runs, run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON at the end; progress goes to standard error.")
def command(
    recipe: str | None, scale: str, out: Path, data_root: Path | None, jobs: int, dry_run: bool, as_json: bool
) -> None:
    """Run what an experiment's recipe asks for and is not done yet.

    RECIPE is a file, or the name of a recipe that comes with packnet-deploy; without it they are listed. Interrupted
    runs go on where they were. A run that fails is reported, and the others go on. Then: packnet report DIR.
    """
    from packnet_deploy.cli.coming import command_line, print_next
    from packnet_deploy.cli.show import console, say_json
    from packnet_deploy.errors import CheckFailed, EnvironmentFault
    from packnet_deploy.experiments.design import design_of, missing_files
    from packnet_deploy.experiments.folder import ExperimentsFolder
    from packnet_deploy.experiments.recipe import read_experiment, recipe_path
    from packnet_deploy.experiments.runner import execute

    if recipe is None:
        _list_recipes(as_json)
        return
    screen = console(err=as_json)
    path = recipe_path(recipe)
    design = design_of(read_experiment(path, scale), str(path))
    root = data_root or Path(os.environ.get(DATA_ROOT, "."))
    folder = ExperimentsFolder(out)
    _list_runs(screen, design, folder, root)
    missing = missing_files([run for run in design.runs if folder.of(run).state != "done"], root)
    if dry_run:
        if as_json:
            say_json(_document(design, folder, missing))
        for name in missing:
            screen.print(f"not there: {name}", soft_wrap=True)
        if not as_json:
            print_next(screen, "put there what is missing" if missing else "the same without --dry-run")
        return
    if missing:
        raise EnvironmentFault(
            f"{', '.join(missing[:4])}{' ...' if missing[4:] else ''}: not there; put images and weights under "
            f"--data-root or ${DATA_ROOT} by these names, or change the recipe"
        )
    folder.write(design)
    with _progress(screen, design, folder) as watcher:
        outcomes = execute(design.runs, folder, root, watcher, jobs)
    failed = [outcome for outcome in outcomes if outcome.code != 0]
    if as_json:
        say_json(_document(design, folder, failed={outcome.run.name: outcome.reason for outcome in failed}))
    if failed:
        raise CheckFailed(
            f"{len(failed)} of {len(design.runs)} runs failed, {failed[0].run.name} first; see "
            f"{folder.of(failed[0].run).log}, then give the same command again"
        )
    screen.print(f"all {len(design.runs)} runs are done", soft_wrap=True)
    if not as_json:
        print_next(screen, command_line("report", out))


def _document(
    design: Design, folder: ExperimentsFolder, missing: Sequence[str] = (), failed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What there is of an experiment, as JSON values (docs/json.md)."""
    return {
        "experiment": design.experiment.name,
        "scale": design.experiment.scale,
        "folder": str(folder.path),
        "missing": list(missing),
        "runs": [
            {
                "run": run.name,
                "state": folder.of(run).state,
                "epochs": len(folder.of(run).rows("log.csv")),
                "epochs_asked": run.epochs,
                "failed": (failed or {}).get(run.name),
            }
            for run in design.runs
        ],
    }


def _list_recipes(as_json: bool) -> None:
    from packnet_deploy.cli.coming import print_next
    from packnet_deploy.cli.show import console, say_json, table
    from packnet_deploy.experiments.recipe import shipped_recipes
    from packnet_deploy.training.recipe import read_toml

    documents = {name: read_toml(path) for name, path in shipped_recipes().items()}
    recipes: list[dict[str, Any]] = [
        {"recipe": name, "scales": list(document.get("scale", {})), "title": str(document.get("title", ""))}
        for name, document in documents.items()
    ]
    if as_json:
        say_json({"recipes": recipes})
        return
    screen, shown = console(), table("recipes", ("name", "scales", "title"), ())
    for recipe in recipes:
        shown.add_row(recipe["recipe"], ", ".join(recipe["scales"]), recipe["title"])
    screen.print(shown)
    print_next(screen, "packnet experiment NAME --scale small --data-root DIR --dry-run")


def _list_runs(screen: Console, design: Design, folder: ExperimentsFolder, root: Path) -> None:
    from packnet_deploy.cli.show import table
    from packnet_deploy.training.recipe import read_toml

    shown = table(f"{design.experiment.title} ({design.experiment.scale})", ("run", "state"), ("epochs",))
    moved = False
    for run in design.runs:
        place = folder.of(run)
        epochs = len(place.rows("log.csv"))
        shown.add_row(run.name, place.state, f"{run.epochs}" if place.state == "done" else f"{epochs} of {run.epochs}")
        moved |= place.state == "done" and read_toml(place.recipe) != run.recipe(root)
    screen.print(shown)
    if moved:
        screen.print("note: some runs were done with images or weights from other folders than those named now")


def _progress(screen: Console, design: Design, folder: ExperimentsFolder) -> _Lines:
    todo = [run for run in design.runs if folder.of(run).state != "done"]
    done = {run.name: len(folder.of(run).rows("log.csv")) for run in todo}
    return (_Bars if screen.is_terminal else _Lines)(screen, todo, done)


class _Lines:
    """A line when a run begins and one when it ends, with the time that the rest may take."""

    def __init__(self, screen: Console, todo: Sequence[Run], done: dict[str, int]) -> None:
        import time

        self._screen, self._clock, self._begun = screen, time.monotonic, time.monotonic()
        self._todo = {run.name: run.epochs for run in todo}
        self._before, self._now = dict(done), dict(done)
        self._ended = 0

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, run: Run) -> None:
        self._screen.print(f"{run.name}: {self._now[run.name]} of {run.epochs} epochs done, going on", soft_wrap=True)

    def going(self, run: Run, epochs: int, seconds: float) -> None:
        self._now[run.name] = epochs

    def ended(self, outcome: Outcome) -> None:
        self._ended += 1
        left_out = outcome.code != 0  # its missing epochs are no work that is left
        self._todo[outcome.run.name] = self._now[outcome.run.name] if left_out else outcome.run.epochs
        how = f"done in {_time(outcome.seconds)}" if outcome.code == 0 else f"FAILED: {outcome.reason}"
        self._screen.print(f"{self._ended}/{len(self._todo)} {outcome.run.name}: {how}{self.left()}", soft_wrap=True)

    def left(self) -> str:
        """The time the rest may take at the pace so far, by epochs."""
        trained = sum(self._now.values()) - sum(self._before.values())
        rest = sum(max(0, self._todo[name] - self._now[name]) for name in self._todo)
        if not trained or not rest:
            return ""
        return f"; about {_time((self._clock() - self._begun) * rest / trained)} left"


class _Bars(_Lines):
    """A bar for each run that is going, over the lines of those that ended."""

    def __init__(self, screen: Console, todo: Sequence[Run], done: dict[str, int]) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__(screen, todo, done)
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TextColumn("epochs"))
        self._bars: Progress = Progress(
            *columns, TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=screen, transient=True
        )
        self._ids: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, run: Run) -> None:
        self._ids[run.name] = self._bars.add_task(
            printable(run.name), total=run.epochs, completed=self._now[run.name], left=self.left()
        )

    def going(self, run: Run, epochs: int, seconds: float) -> None:
        super().going(run, epochs, seconds)
        self._bars.update(self._ids[run.name], completed=epochs, left=self.left())

    def ended(self, outcome: Outcome) -> None:
        if (bar := self._ids.pop(outcome.run.name, None)) is not None:
            self._bars.remove_task(bar)
        super().ended(outcome)


def _time(seconds: float) -> str:
    """Seconds as a person would say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
