"""The report as one ordered list: parts, each a heading and its blocks, which every format renders in this order.

A block says which formats have it. The page has all but what it says elsewhere in its frame; the Markdown leaves out
the runs and tables too long to read; the paper has the answers, the main tables, a few figures, how it was done, what
it cost and what is missing, and leaves the rest to the page and the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from theseus_bench.report.checklist import ACL
from theseus_bench.report.content import (
    OPENING,
    Finding,
    Report,
    ReportFigure,
    Section,
    checklist_tables,
    counts,
    opening_figure,
    remarks,
    scope,
)
from theseus_bench.report.run_lists import gaps_table, runs_table
from theseus_bench.tables.model import Table
from theseus_bench.tables.scores import unique_runs
from theseus_bench.wording import count_noun

PAGE, MARKDOWN, PAPER = "page", "markdown", "paper"
EVERYWHERE = frozenset({PAGE, MARKDOWN, PAPER})
NOT_PAPER, NOT_PAGE = EVERYWHERE - {PAPER}, EVERYWHERE - {PAGE}
ONLY_PAGE, ONLY_MARKDOWN, ONLY_PAPER = frozenset({PAGE}), frozenset({MARKDOWN}), frozenset({PAPER})
LONG = 40  # rows; a longer table is folded on the page, and in the other formats is left to its files
PAPER_FIGURES = 4  # beside the opening one: those of these kinds first, each kind once
FIRST_KINDS = ("differences", "forest", "retention", "seed_strips")


@dataclass(frozen=True)
class Block:
    """What stands under a heading. `formats` are those that have it."""

    formats: frozenset[str] = field(default=EVERYWHERE, kw_only=True)

    @property
    def kind(self) -> str:
        """The name by which the templates know it: 'text', 'listing', …"""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Findings(Block):
    """The answers, read first."""

    findings: Sequence[Finding]


@dataclass(frozen=True)
class Opening(Block):
    """What was run, in sentences and in numbers of runs by status, beside the figure that shows the most at once."""

    scope: str
    counts: dict[str, int]
    picture: Picture | None


@dataclass(frozen=True)
class Text(Block):
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items(Block):
    """Sentences in a list, under a small heading of their own."""

    heading: str
    items: Sequence[str]


@dataclass(frozen=True)
class Values(Block):
    """Names, each with its value."""

    values: dict[str, str]


@dataclass(frozen=True)
class Listing(Block):
    """A table; the page folds it behind its caption if it is not `open`."""

    table: Table
    open: bool


@dataclass(frozen=True)
class Picture(Block):
    """A figure. `where` names the experiment or suite that it is of, as figures of several have the same title."""

    figure: ReportFigure
    where: str


@dataclass(frozen=True)
class Links(Block):
    """Links, by name, to files: in a sentence that `words` begins, or without any in a list."""

    words: str
    links: dict[str, str]


@dataclass(frozen=True)
class Detail(Block):
    """Blocks that the page folds together behind one line."""

    blocks: Sequence[Block]


@dataclass(frozen=True)
class Part:
    """A heading and its blocks; the first has no heading, as the report's title stands above it.

    `anchor` is the part's id in the page, `name` the experiment's, beside its title.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]
    name: str = ""


def report_parts(report: Report, format: str, base: str = "") -> list[Part]:
    """The parts and blocks that a format has, in order; a part of which nothing is left is left out.

    `base`: the way from the report's folder to the suite's ('' or '../').
    """
    parts = [replace(part, blocks=tuple(_of_format(part.blocks, format))) for part in _all_parts(report, base)]
    return [part for part in parts if part.blocks]


def _of_format(blocks: Sequence[Block], format: str) -> Iterator[Block]:
    """The blocks of a format; only the page keeps the detail together, to fold it."""
    for block in blocks:
        if format not in block.formats:
            continue
        if not isinstance(block, Detail):
            yield block
        elif inner := tuple(_of_format(block.blocks, format)):
            yield from (replace(block, blocks=inner),) if format == PAGE else inner


def _all_parts(report: Report, base: str) -> list[Part]:
    runs = unique_runs(report.runs)
    return [
        Part("", "", tuple(_first_screen(report))),
        Part("claims", "Claims", tuple(_claims(report.claims))),
        *_experiments(report),
        Part("method", "How it was done", tuple(_how_it_was_done(report))),
        Part("costs", "Costs", tuple(_costs(report.sections))),
        Part("gaps", "Failed, missing and excluded runs", tuple(_gaps(gaps_table(runs)))),
        Part("environment", "Environment", tuple(_environment(report.environment))),
        Part("checklist", "Reproducibility checklist", tuple(_checklist(report))),
        Part("runs", "All runs", tuple(_runs(runs_table(runs, base)))),
        Part("files", "Files", tuple(_files(report, base))),
    ]


def _first_screen(report: Report) -> Iterator[Block]:
    if report.findings:
        yield Findings(report.findings)
    figure = opening_figure(report)
    yield Opening(
        " ".join(scope(report)), counts(unique_runs(report.runs)), Picture(figure, report.suite) if figure else None
    )
    yield Text(
        "The page, index.html beside this file, also has the experiments' other tables and figures, the checklists in "
        "full, and the list of all runs with a link to the record of each.",
        formats=ONLY_PAPER,
    )
    if sentences := remarks(report):
        yield Items("To know before reading", sentences)


def _claims(claims: Table | None) -> Iterator[Block]:
    if claims:
        yield Listing(claims, any(row.kind != "not-comparable" for row in claims.rows))


def _experiments(report: Report) -> list[Part]:
    opening, paper_figures = opening_figure(report), _paper_figures(report)
    shared = _shared_notes(report.sections)
    return [
        Part(
            f"experiment-{section.name}",
            section.title,
            [*_main_table(section, shared), Detail(tuple(_detail(section, opening, paper_figures)))],
            section.name,
        )
        for section in report.sections
    ]


def _main_table(section: Section, shared: Sequence[str]) -> Iterator[Block]:
    """The experiment's first table; the paper gives the notes that several of these tables have once for all."""
    if not section.tables:
        yield Text("There is no table of this experiment.")
        return
    table = section.tables[0]
    yield from _readable(table, is_main=True, formats=NOT_PAPER)
    own = tuple(note for note in table.notes if note not in shared)
    yield from _readable(replace(table, notes=own), is_main=True, formats=ONLY_PAPER)


def _readable(table: Table, is_main: bool, formats: frozenset[str]) -> Iterator[Block]:
    """The table, or where it is too long to be read in a format that cannot fold it, a sentence in its place."""
    rows = len(table.groups)
    if rows <= LONG:
        yield Listing(table, is_main, formats=formats)
    else:
        yield Listing(table, False, formats=formats & ONLY_PAGE)
        sentence = f"{table.caption} {rows:,} rows: on the report's page and in the tables' files."
        yield Text(sentence, formats=formats - ONLY_PAGE)


def _detail(section: Section, opening: ReportFigure | None, paper_figures: Sequence[str]) -> Iterator[Block]:
    for table in section.tables[1:]:
        yield from _readable(table, is_main=False, formats=NOT_PAPER)
    if section.downloads:
        yield Links("The tables as files", section.downloads, formats=NOT_PAPER)
    for figure in section.figures:
        if figure is not opening:
            yield Picture(figure, section.name, formats=EVERYWHERE if figure.name in paper_figures else NOT_PAPER)


def _paper_figures(report: Report) -> list[str]:
    """The names of the figures that the paper has beside the opening one."""
    opening = opening_figure(report)
    by_kind: dict[str, str] = {}
    for section in report.sections:
        for figure in section.figures:
            if figure is not opening:
                by_kind.setdefault(figure.name.removeprefix(f"{section.name}-"), figure.name)
    ordered = sorted(by_kind, key=lambda kind: FIRST_KINDS.index(kind) if kind in FIRST_KINDS else len(FIRST_KINDS))
    return [by_kind[kind] for kind in ordered if kind != OPENING][:PAPER_FIGURES]


def _shared_notes(sections: Sequence[Section]) -> list[str]:
    """The notes that more than one experiment's main table has, in reading order."""
    notes = [note for section in sections for note in (section.tables[0].notes if section.tables else ())]
    return [note for note in dict.fromkeys(notes) if notes.count(note) > 1]


def _how_it_was_done(report: Report) -> Iterator[Block]:
    """For the paper: what the checklist could answer from the records, in sentences."""
    answers = {
        item.item.partition(": ")[2] or item.item: item.answer for item in report.checklist if item.source == ACL
    }
    if values := {name.capitalize(): answer for name, answer in answers.items() if answer}:
        yield Values(values, formats=ONLY_PAPER)
    if notes := _shared_notes(report.sections):
        yield Items("On all tables of scores", notes, formats=ONLY_PAPER)


def _costs(sections: Sequence[Section]) -> Iterator[Block]:
    """For the paper: the first experiment's costs; on the page they are in its detail."""
    if costs := next((section.costs for section in sections if section.costs), None):
        yield Listing(costs, True, formats=ONLY_PAPER)


def _gaps(gaps: Table) -> Iterator[Block]:
    rows = len(gaps.groups)
    if not rows:
        yield Text("No run failed, none is missing and none was excluded.")
    elif rows <= LONG:
        yield Listing(gaps, True)
    else:
        yield Listing(gaps, False, formats=NOT_PAPER)
        yield Text(f"{rows:,} rows, by method and task: on the report's page.", formats=ONLY_PAPER)


def _environment(environment: dict[str, str]) -> Iterator[Block]:
    if environment:
        yield Values(environment)
    else:
        yield Text("The environment of these runs is not recorded.")


def _checklist(report: Report) -> Iterator[Block]:
    if not report.checklist:
        return
    yield Text(
        "Filled in from the records. What only the authors can answer is left blank and marked.", formats=NOT_PAPER
    )
    for table in checklist_tables(report.checklist):
        yield Listing(table, False, formats=NOT_PAPER)
    blank_items = [f"{item.source} {item.item}" for item in report.checklist if not item.answer]
    if blank_items:
        words = f"Of {count_noun(len(report.checklist), 'item')}, only the authors can answer {len(blank_items)}: "
        yield Text(
            f"{words}{'; '.join(blank_items)}. The others are answered on the report's page.", formats=ONLY_PAPER
        )


def _runs(runs: Table) -> Iterator[Block]:
    yield Text(
        "Each seed leads to the run's record, run.json: its resolved settings, revisions, versions and timings. Beside "
        "it lie its predictions.",
        formats=ONLY_PAGE,
    )
    yield Listing(runs, len(runs.groups) <= LONG, formats=ONLY_PAGE)


def _files(report: Report, base: str) -> Iterator[Block]:
    links = {"All runs, sorted and filtered": "index.html#runs", "Records of the runs": f"{base}runs", **report.links}
    yield Links("", links, formats=ONLY_MARKDOWN)
