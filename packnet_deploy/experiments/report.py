"""``packnet report``: from an experiments folder to HTML and Markdown, one for each experiment and one of all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from packnet_deploy.errors import UsageError
from packnet_deploy.experiments import figures, tables
from packnet_deploy.experiments.folder import ExperimentsFolder
from packnet_deploy.experiments.paper import PaperFigures, paper_figures
from packnet_deploy.experiments.results import Evidence, gather
from packnet_deploy.pack.atomic import replacing
from packnet_deploy.reports.blocks import Block, Page, Picture, Section, Table, Text
from packnet_deploy.reports.html import html_page
from packnet_deploy.reports.markdown import FIGURES, figure_file, markdown_text

PAPER_SCALE = "paper"  # where networks and images are the paper's own, and its figures may stand beside ours


def write_report(folder: Path, output: Path) -> list[Path]:
    """Write the combined report and everything else beside it; returns what was written.

    Args:
        output: an HTML file's name, or a folder for ``report.html`` and the rest.

    Raises:
        EnvironmentFault: the folder holds no experiments.
        UsageError: ``output`` has the name of one, or of another kind of file.
        ArtefactError: something in it is damaged.
    """
    if output.is_dir() or not output.suffix:
        output /= "report.html"
    if output.suffix != ".html":
        raise UsageError(f"-o {output}: expected a name that ends in .html, or a folder")
    kept = ExperimentsFolder(folder)
    sections = [section_of(gather(kept, design), design["file"]) for design in kept.designs()]
    if any(section.name == output.stem for section in sections):
        raise UsageError(f"-o {output}: that is the name of one experiment's own report; choose another")
    combined = sections[0].title if len(sections) == 1 else "Experiments"
    pages = {output.stem: Page(combined, tuple(sections))}
    pages |= {section.name: Page(section.title, (section,)) for section in sections}
    output.parent.mkdir(parents=True, exist_ok=True)
    (output.parent / FIGURES).mkdir(exist_ok=True)
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Picture):
                _write(output.parent / figure_file(section, block), block.svg)
    written = []
    for stem, page in pages.items():
        html = output if stem == output.stem else output.with_name(f"{stem}.html")
        _write(html, html_page(page))
        _write(html.with_suffix(".md"), markdown_text(page))
        written += [html, html.with_suffix(".md")]
    return written


def section_of(evidence: Evidence, name: str) -> Section:
    """One experiment's section: what it is, what is missing, and its views."""
    design = evidence.design
    paper = paper_figures(design["paper"])
    beside = paper if design["scale"] == PAPER_SCALE else PaperFigures()
    paragraphs = (" ".join(text.split()) for text in design["about"].split("\n\n"))
    blocks: list[Block] = [Text(text) for text in paragraphs if text]
    blocks.append(Text(_provenance(evidence)))
    if evidence.missing:
        blocks.append(Text(_incomplete(evidence), warning=True))
    blocks += [Text(line, warning=True) for line in _warned(evidence)]
    for view in design["views"]:
        blocks += _view(view, evidence, beside)
    if beside is not paper:
        blocks += tables.paper_table(evidence, paper)
    return Section(name, f"{design['title']} ({design['scale']} scale)", tuple(blocks))


def _view(view: str, evidence: Evidence, paper: PaperFigures) -> list[Block]:
    """A view's figures, then its tables."""
    drawn, tabled = _VIEWS[view]
    pictures: list[Block] = [picture for draw in drawn for picture in draw(evidence)]
    return pictures + [table for make in tabled for table in make(evidence, paper)]


_VIEWS: dict[str, tuple[list[Callable[[Evidence], list[Picture]]], list[Callable[..., list[Table]]]]] = {
    "table": ([], [tables.main_table]),
    "bars": ([figures.bars], []),
    "paired": ([], [tables.paired_tables]),
    "drift": ([figures.drift], [tables.drift_tables]),
    "order": ([figures.order], [tables.order_tables]),
    "ratio": ([figures.ratio], [tables.ratio_tables]),
    "ownership": ([figures.ownership], []),
}


def _provenance(evidence: Evidence) -> str:
    design = evidence.design
    images = "; ".join(
        f"{task['label']}: {task['data'] or 'no images, the network as it is'}" for task in design["tasks"]
    )
    minutes = sum(result.seconds for result in evidence.results.values()) / 60
    command = f"packnet experiment {design['experiment']} --scale {design['scale']}"
    return f"`{command}`: {len(evidence.results)} runs done, {minutes:,.1f} min of training in all. Images: {images}."


def _incomplete(evidence: Evidence) -> str:
    missing, names = evidence.missing, dict.fromkeys(trial["run"] for trial in evidence.design["trials"])
    listed = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if missing[6:] else "")
    return f"Incomplete: {len(missing)} of {len(names)} runs are missing ({listed}); the same command runs them."


def _warned(evidence: Evidence) -> list[str]:
    """What trainings warned of, each with its run and task."""
    return [
        f"`{run}`, {task}: {line}"
        for run, result in evidence.results.items()
        for task, lines in result.warnings.items()
        for line in lines
    ]


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
