"""Reports: every figure is the one in the files, what is missing is said, and the page needs nothing else.

The runs are the stand-in trainer's, whose errors are known (stand_in_trainer.error).
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from comparison import RECIPE, run_all
from stand_in_trainer import error

from packnet_deploy.errors import ArtefactError, EnvironmentFault, UsageError
from packnet_deploy.experiments.analyses import differences
from packnet_deploy.experiments.design import design_of
from packnet_deploy.experiments.folder import ExperimentsFolder
from packnet_deploy.experiments.paper import paper_figures
from packnet_deploy.experiments.recipe import read_experiment
from packnet_deploy.experiments.report import section_of, write_report
from packnet_deploy.experiments.results import Evidence, gather
from packnet_deploy.experiments.tables import points
from packnet_deploy.reports.blocks import Cell, Picture, Section, Table, Text

SEEDS = (0, 1)
BOTH_SCALES = RECIPE + RECIPE[RECIPE.index("[scale.small]") :].replace("scale.small", "scale.paper")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> ExperimentsFolder:
    """The comparison with all its runs done, as a small and as a paper-scale experiment. Read only."""
    folder = tmp_path_factory.mktemp("finished")
    path = folder / "comparison.toml"
    path.write_text(BOTH_SCALES)
    out = ExperimentsFolder(folder / "out")
    for scale in ("small", "paper"):
        run_all(design_of(read_experiment(path, scale), ""), out)
    return out


@pytest.fixture
def copied(finished: ExperimentsFolder, tmp_path: Path) -> ExperimentsFolder:
    return ExperimentsFolder(Path(shutil.copytree(finished.path, tmp_path / "copied")))


def section(out: ExperimentsFolder, scale: str = "small") -> Section:
    design = next(design for design in out.designs() if design["scale"] == scale)
    return section_of(gather(out, design), design["file"])


def table(of: Section, title: str) -> Table:
    return next(block for block in of.blocks if isinstance(block, Table) and block.title == title)


def cell(of: Table, row: str, head: str, group: str = "") -> Cell:
    column = next(i for i, h in enumerate(of.heads) if (h.label, h.group) == (head, group))
    return next(r for r in of.rows if r.label == row).cells[column]


def shown(values: list[float]) -> tuple[str, str]:
    """Top-1 errors (0..1) as the cell that sums them up; the stand-in's top-5 is a tenth."""
    mean = 100 * statistics.fmean(values)
    return f"{mean:.2f} ({mean / 10:.2f})", f"± {100 * statistics.stdev(values):.2f}, n = {len(values)}"


def test_the_main_table_is_the_mean_over_orders_and_seeds(finished: ExperimentsFolder) -> None:
    main = table(section(finished), "Errors and sizes")
    assert [head.label for head in main.heads] == ["PackNet", "LwF", "Individual"]
    assert [row.label for row in main.rows][:3] == ["imagenet", "Birds", "Cars"]
    packed = [error("packnet", index, 0, seed) for index in (2, 3) for seed in SEEDS]
    assert (cell(main, "Birds", "PackNet").text, cell(main, "Birds", "PackNet").note) == shown(packed)
    forgetting = [error("lwf", index, 3 - index, seed) for index in (2, 3) for seed in SEEDS]
    assert (cell(main, "Cars", "LwF").text, cell(main, "Cars", "LwF").note) == shown(forgetting)
    alone = [error("individual", 2, 0, seed) for seed in SEEDS]
    assert (cell(main, "Birds", "Individual").text, cell(main, "Birds", "Individual").note) == shown(alone)


def test_a_first_task_that_all_runs_share_counts_once(finished: ExperimentsFolder) -> None:
    main = table(section(finished), "Errors and sizes")
    first = cell(main, "imagenet", "PackNet")
    assert (first.text, first.note) == ("21.00 (2.10)", "n = 1")
    assert cell(main, "imagenet", "LwF").note.endswith("n = 4"), "every run of LwF changed its own"


def test_sizes_are_those_of_the_packs(finished: ExperimentsFolder) -> None:
    design = next(design for design in finished.designs() if design["scale"] == "small")
    results = gather(finished, design).results
    packed = next(result for name, result in results.items() if name.startswith("packnet") and len(result.owners) == 3)
    weights, others = 4 * 27 + 8 * 16, 5 + 3 * 48
    assert packed.paper_bytes == pytest.approx(4 * (weights + others) + weights * math.log2(3) / 8)
    lwf = next(result for name, result in results.items() if name.startswith("lwf"))
    assert lwf.paper_bytes == 4 * (weights + others), "one owner: no mask"
    alone = next(result for name, result in results.items() if name.startswith("individual"))
    assert alone.paper_bytes == 3 * 4 * (weights + 5 + 48)
    folder = finished.run(next(name for name in results if name.startswith("individual")))
    files = [p for p in folder.path.glob("*.pack/**/*") if p.is_file()]
    assert alone.file_bytes == sum(p.stat().st_size for p in files)


def test_drift_is_the_change_within_a_run(finished: ExperimentsFolder) -> None:
    moved = table(section(finished), "Older tasks, as tasks are added")
    assert cell(moved, "LwF: imagenet", "1 task later").text == "+5.00"
    assert cell(moved, "LwF: imagenet", "2 tasks later").text == "+10.00"
    assert cell(moved, "LwF: Birds", "1 task later") == Cell("+5.00", "± 0.00, n = 2")
    assert cell(moved, "LwF: Birds", "2 tasks later").text == "-"
    assert cell(moved, "PackNet: imagenet", "2 tasks later").text == "0"
    assert not any(row.label.startswith("Individual") for row in moved.rows), "nothing was added to those"


def test_pairs_are_of_the_same_task_order_and_seed(finished: ExperimentsFolder) -> None:
    """Individual networks were trained in one of the two orders: the others have nothing to be paired with."""
    pairs = table(section(finished), "Added tasks against networks of their own, paired")
    assert [row.label for row in pairs.rows] == ["PackNet", "LwF"]
    assert [head.label for head in pairs.heads] == ["Birds", "Cars", "all", "worst task"]
    expected = {
        (label, task): [
            100
            * (error(method, index, 3 - index if method == "lwf" else 0, seed) - error("individual", index, 0, seed))
            for seed in SEEDS
        ]
        for label, method in (("PackNet", "packnet"), ("LwF", "lwf"))
        for index, task in ((2, "Birds"), (3, "Cars"))
    }
    for (label, task), values in expected.items():
        assert cell(pairs, label, task) == Cell(f"{statistics.fmean(values):+.2f}", "± 0.00, n = 2")
    forgotten = expected["LwF", "Birds"] + expected["LwF", "Cars"]
    spread = statistics.stdev(forgotten)
    assert cell(pairs, "LwF", "all") == Cell(f"{statistics.fmean(forgotten):+.2f}", f"± {spread:.2f}, n = 4")
    assert cell(pairs, "LwF", "worst task") == Cell(f"{max(forgotten):+.2f}", "Birds")


def test_a_pair_is_a_difference_within_one_order_and_seed(finished: ExperimentsFolder) -> None:
    design = next(design for design in finished.designs() if design["scale"] == "small")
    evidence = gather(finished, design)
    assert differences(evidence, "packnet-75", "individual") == {
        "birds": pytest.approx([0.05, 0.05]),
        "cars": pytest.approx([0.05, 0.05]),
    }
    assert differences(evidence, "individual", "individual")["birds"] == [0, 0]


def test_columns_are_paired_within_their_group_alone(finished: ExperimentsFolder) -> None:
    design = next(design for design in finished.designs() if design["scale"] == "small")
    evidence = gather(finished, design)

    def rows(**groups: str) -> list[str]:
        columns = [column | {"group": groups[column["key"][:3]]} for column in design["columns"]]
        found = section_of(Evidence(design | {"columns": columns}, evidence.results), "")
        return [row.label for b in found.blocks if isinstance(b, Table) and "paired" in b.title for row in b.rows]

    assert rows(pac="a", lwf="b", ind="a") == ["a: PackNet"]
    assert rows(pac="a", lwf="a", ind="b") == []


def test_order_is_by_place_among_the_added_tasks(finished: ExperimentsFolder) -> None:
    places = table(section(finished), "Errors by place in the order: PackNet")
    for place, index in (("added first", 2), ("added second", 3)):
        found = cell(places, "Birds", place)
        assert (found.text, found.note) == shown([error("packnet", index, 0, seed) for seed in SEEDS])


def test_ratios_come_from_the_deltas_reports(finished: ExperimentsFolder) -> None:
    ratios = table(section(finished), "Before and after pruning")
    values = [error("packnet", index, 0, seed) for index in (2, 3) for seed in SEEDS]
    for moment, shift in (("trained", -0.01), ("pruned", 0.3), ("retrained", 0.0)):
        found = cell(ratios, "Birds", moment, "PackNet")
        assert (found.text, found.note) == shown([value + shift for value in values])


def test_the_papers_figures_stand_beside_ours_at_its_own_scale_only(finished: ExperimentsFolder) -> None:
    here, there = section(finished, "paper"), section(finished, "small")
    assert cell(table(here, "Errors and sizes"), "imagenet", "PackNet").paper == "30.87 (10.93)"
    assert cell(table(here, "Errors and sizes"), "Size as the paper counts, MB", "PackNet").paper == "595"
    assert "arXiv:1711.05769" in table(here, "Errors and sizes").note
    assert not any(isinstance(b, Table) and b.title.startswith("The paper") for b in here.blocks)
    assert all(c.paper == "" for b in there.blocks if isinstance(b, Table) for row in b.rows for c in row.cells)
    apart = table(there, "The paper's own figures")
    assert cell(apart, "ImageNet", "PackNet").text == "30.87 (10.93)"
    assert cell(apart, "Flowers", "PackNet").text == "9.75 †"
    assert "† as quoted by later publications" in apart.note
    assert "Not to be compared figure by figure" in apart.note


def test_figures_without_a_source_are_left_out() -> None:
    """Recalled ones: LwF's errors, and three for Flowers."""
    table2 = paper_figures("table2").views["table"]
    assert set(table2["lwf"]) == {"size_paper"}
    assert [column for column, rows in table2.items() if "flowers" in rows] == ["packnet-75", "individual"]
    assert paper_figures("nothing").views == {}


def test_an_incomplete_experiment_says_what_is_missing(copied: ExperimentsFolder) -> None:
    design = next(design for design in copied.designs() if design["scale"] == "small")
    gone = [t["run"] for t in design["trials"] if t["column"] == "packnet-75"][:3]
    gone += [t["run"] for t in design["trials"] if t["column"] == "individual"]
    for name in gone:
        shutil.rmtree(copied.run(name).path)
    found = section(copied)
    (warning,) = [b.text for b in found.blocks if isinstance(b, Text) and b.warning]
    assert warning.startswith("Incomplete: 5 of 10 runs are missing")
    assert all(name in warning for name in gone)
    main = table(found, "Errors and sizes")
    assert cell(main, "Birds", "PackNet").note == "n = 1 of 4"
    assert cell(main, "Birds", "Individual") == Cell("-", "n = 0 of 2")
    assert cell(main, "Size of the files, MB", "Individual").text == "-"
    assert cell(main, "imagenet", "PackNet").note == "n = 1"


def test_what_a_training_warned_of_is_repeated(tmp_path: Path) -> None:
    path = tmp_path / "comparison.toml"
    path.write_text(RECIPE.replace('label = "Birds"', 'label = "Birds"\nprune_rate = 0.99'))
    out = ExperimentsFolder(tmp_path / "out")
    design = design_of(read_experiment(path, "small"), "")
    run_all(design, out, runs=2)
    lines = [block.text for block in section(out).blocks if isinstance(block, Text) and block.warning]
    assert f"`{design.runs[1].name}`, birds: it collapsed" in lines
    assert not [line for line in lines if "cars: it" in line]


def test_an_experiment_without_any_run_is_a_report_too(copied: ExperimentsFolder) -> None:
    shutil.rmtree(copied.path / "runs")
    found = section(copied)
    assert not any(isinstance(block, Picture) for block in found.blocks)
    assert any(isinstance(block, Text) and block.warning for block in found.blocks)


class Page(HTMLParser):
    """Tags that are open, ids, and whatever a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.fetched += [v for name, v in attrs if name in ("src", "href", "xlink:href") and not v.startswith("#")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_complete_in_itself(finished: ExperimentsFolder, tmp_path: Path) -> None:
    written = write_report(finished.path, tmp_path / "all.html")
    stems = ("all", "comparison-paper", "comparison-small")
    assert sorted(written) == sorted(tmp_path / f"{stem}{suffix}" for stem in stems for suffix in (".html", ".md"))
    for path in written:
        text = path.read_text("utf-8")
        assert "A comparison" in text
        if path.suffix == ".html":
            page = Page()
            page.feed(text)
            assert page.open == []
            assert page.fetched == []
            assert text.count("<svg") == 5 * (2 if path.stem == "all" else 1)
            assert len(page.ids) == len(set(page.ids)) or path.stem == "all"
        else:
            for line in text.splitlines():
                if line.startswith("!["):
                    assert (tmp_path / line.rpartition("(")[2][:-1]).is_file()
    for figure in (tmp_path / "figures").iterdir():
        ElementTree.parse(figure)
    again = write_report(finished.path, tmp_path / "again" / "all.html")
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in written], "same files, same report"


def test_a_recipes_line_breaks_are_not_the_reports(copied: ExperimentsFolder) -> None:
    design = next(design for design in copied.designs() if design["scale"] == "small")
    design["about"] = "Three methods,\nfour orders.\n\n\n  Not of\nthe paper."
    texts = [
        block.text for block in section_of(gather(copied, design), design["file"]).blocks if isinstance(block, Text)
    ]
    assert texts[:2] == ["Three methods, four orders.", "Not of the paper."]


def test_what_is_no_experiments_folder_is_refused(copied: ExperimentsFolder, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"holds no experiments; run: packnet experiment RECIPE --out"):
        write_report(tmp_path / "nowhere", tmp_path / "r.html")
    with pytest.raises(UsageError, match="that is the name of one experiment's own report"):
        write_report(copied.path, copied.path / "comparison-small.html")
    design = copied.path / "comparison-small.json"
    content = json.loads(design.read_text())
    del content["trials"]
    design.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=r"comparison-small.json: not an experiment's design"):
        copied.designs()


def test_a_finished_run_that_lost_its_files_is_named(copied: ExperimentsFolder) -> None:
    design = next(design for design in copied.designs() if design["scale"] == "small")
    run = copied.run(design["trials"][0]["run"])
    results = run.path / "tasks.train" / "results.csv"
    results.write_text(results.read_text().replace("0.2", "?"))
    with pytest.raises(ArtefactError, match=r"results.csv is damaged .* delete the folder and run it again"):
        gather(copied, design)
    shutil.rmtree(run.path / "tasks.pack")
    with pytest.raises(ArtefactError, match="its packs are gone"):
        gather(copied, design)


@pytest.mark.parametrize(("change", "shown"), [(0.0, "0"), (-1e-9, "0"), (-6e-5, "-0.01"), (0.5, "+50.00")])
def test_a_change_that_rounds_to_nothing_has_no_sign(change: float, shown: str) -> None:
    assert points(change) == shown
