"""The report: self-contained, complete, honest about what is absent, and the same in its three formats."""

import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from theseus_bench.report.blocks import EVERYWHERE, report_parts
from theseus_bench.report.checklist import CheckItem
from theseus_bench.report.content import BLANK, Finding, Report, ReportFigure, Section, checklist_tables
from theseus_bench.report.html import render_html, write_report
from theseus_bench.report.markdown import render_markdown
from theseus_bench.report.pdf import write_pdf
from theseus_bench.tables.model import Cell, Column, Row, Table
from theseus_bench.wording import NOT_MEASURED, duration

TEMPLATES = Path(__file__).parents[2] / "report"
STATUSES = {
    1: ("complete", "", 100.0),
    2: ("failed", "the loss became NaN at step 12", 50.0),
    3: ("missing", "the job was killed", float("nan")),
    4: ("excluded", "no regression objective", float("nan")),
}
SVG = '<svg role="img" viewBox="0 0 240 120" aria-label="A line"><title>A line</title><path d="M0 0L240 120"/></svg>'


def make_runs(statuses=STATUSES):
    rows = []
    for seed, (status, reason, seconds) in statuses.items():
        run = {"method": "theseus", "variant": "constant", "task": "rte", "seed": seed, "status": status}
        path = f"runs/theseus@constant/rte/seed-{seed}"
        properties = {
            "path": path,
            "seconds": seconds,
            "parameters": 67e6,
            "label": "Theseus, constant",
            "role": "proposed",
        }
        rows.append({**run, "reason": reason, **properties})
    return pd.DataFrame(rows)


def make_table(title="A table", note=NOT_MEASURED, caption="Its caption."):
    columns = (Column("speedup", "Speed-up"), Column("rte", "RTE"))
    return Table(title, caption, columns, (Row("Theseus", (Cell(None, notes=(note,)), Cell(66.4))),))


def make_claims(claim="Theseus beats PKD"):
    columns = (Column("verdict", "Verdict", text=True),)
    return Table("What the papers claim", "By the medians.", columns, (Row(claim, (Cell("holds"),), kind="holds"),))


def make_report(**changes):
    values = {
        "suite": "small",
        "subject": "Equal effort; MiniLM, 6 → 3 layers; GLUE",
        "backbone": "bert-base-uncased",
        "statistic": "mean",
        "runs": make_runs(),
        "sections": [Section("glue_dev", "GLUE dev", [make_table()])],
        "environment": {"python": "3.11.7"},
    }
    return Report(**values | changes)


def full_report(tmp_path):
    """A report that has all parts."""
    image = tmp_path / "line.svg"
    image.write_text(SVG.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg" width="240pt" height="120pt"'))
    figure = ReportFigure("line", "A line", "It falls.", SVG, ("figures/line.svg", "figures/line.pdf"), image)
    return make_report(
        findings=[Finding("What reproduces", "3 of 4 numbers", "One is missing.", "complete")],
        claims=make_claims(),
        sections=[Section("one", "First", [make_table()], [figure], {"one.csv": "../tables/one.csv"})],
        checklist=[
            CheckItem("ACL", "C1: model size", "67 million", "run.json"),
            CheckItem("ACL", "A1: limitations", "", ""),
            CheckItem("NeurIPS", "6: settings", "16 tries", "tables/"),
        ],
        notes=["This is the demo."],
        links={"Provenance": "../ro-crate-metadata.json"},
    )


def render(base="", **changes):
    return render_html(make_report(**changes), TEMPLATES, base)


def pdf_text(path, pdftotext):
    return " ".join(subprocess.run([pdftotext, "-layout", path, "-"], capture_output=True, text=True).stdout.split())


class Page(HTMLParser):
    """Collects the links, the ids, the tags and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.tags, self.text = [], [], [], ""
        self.feed(text)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "srcset", "action", "data", "poster")]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if tag in ("dt", "dd", "th", "td", "li", "p", "h2", "code"):
            self.text += " "

    def handle_data(self, data):
        if self.tags[-1:] not in (["style"], ["script"]):
            self.text += data


def test_nothing_is_fetched(tmp_path):
    text = render_html(full_report(tmp_path), TEMPLATES)
    page = Page(text)
    assert page.links, "the page has links, all within it or beside it"
    assert not [link for link in page.links if re.match(r"[a-z]+:|//", link) and link != "data:,"]
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert not set(page.tags) & {"img", "iframe", "object"}
    assert "default-src 'none'" in text, "nor may anything be fetched that slipped in"


def test_links_within_the_page_have_targets(tmp_path):
    page = Page(render_html(full_report(tmp_path), TEMPLATES))
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert {"experiment-one", "claims", "checklist", "runs"} <= inner
    assert inner <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_first_screen_says_what_was_run():
    text = Page(render()).text
    assert "1 method on 1 task, all starting from bert-base-uncased, each with the seeds 1, 2, 3 and 4." in text
    assert "The tables give the mean over the seeds" in text
    assert "Of 4 runs asked for, 1 is complete, 1 failed, 1 is missing and 1 is excluded." in text


def test_first_screen_does_not_promise_every_seed_to_every_method():
    one_seed, two_seeds = (
        make_runs({1: ("complete", "", 5.0)}),
        make_runs({seed: ("complete", "", 5.0) for seed in (1, 2)}),
    )
    text = Page(render(runs=pd.concat([one_seed.assign(method="other"), two_seeds]))).text
    assert "2 methods on 1 task" in text
    assert "some of them with fewer than all, the others with the seeds 1 and 2." in text


def test_answers_come_first():
    findings = [
        Finding("What reproduces", "3 of 4 numbers", "One is missing.", "complete"),
        Finding("How sure", "?", ""),
    ]
    text = Page(render(findings=findings)).text
    places = [text.index(words) for words in ("What reproduces 3 of 4 numbers", "How sure ?", "1 method on 1 task")]
    assert places == sorted(places)


def test_the_title_names_protocol_backbone_and_data(tmp_path):
    subject = make_report().subject
    text = render()
    assert f'<h1>small <span class="subject">{subject}</span></h1>' in text
    assert f"<title>small: {subject} · theseus-bench</title>" in text
    assert render_markdown(make_report()).startswith(f"# small: theseus-bench report\n\n{subject}\n")


def test_all_complete_is_said_plainly():
    text = Page(render(runs=make_runs({1: ("complete", "", 5.0)}))).text
    assert "Of 1 run asked for, all are complete." in text
    assert "each with the one seed 1, so no number here has a spread." in text
    assert "No run failed, none is missing and none was excluded." in text


def test_reasons_are_shown():
    text = Page(render()).text
    section = text[text.index("Failed, missing and excluded runs.") : text.index("Environment python")]
    for _, reason, _ in STATUSES.values():
        assert reason in section


def test_runs_that_ran_link_to_their_record():
    records = [link for link in Page(render(base="../")).links if link.endswith("run.json")]
    assert records == [f"../runs/theseus@constant/rte/seed-{seed}/run.json" for seed in (1, 2)]


def test_a_run_shared_by_experiments_is_counted_once():
    runs = make_runs()
    assert "Of 4 runs asked for" in Page(render(runs=pd.concat([runs, runs]))).text


def test_tables_stand_under_their_experiment_in_order():
    sections = [
        Section("one", "First", [make_table("Medians"), make_table("Means")]),
        Section("two", "Second", []),
    ]
    text = Page(render(sections=sections)).text
    text = text[text.index("First one") :]
    places = [text.index(words) for words in ("Medians.", "Means.", "Second two", "There is no table of this")]
    assert places == sorted(places)


def test_what_is_not_measured_is_said():
    text = Page(render(notes=["This is the demo."])).text
    assert "Speed-up: not measured." in text
    assert "This is the demo." in text
    assert ": not measured" not in Page(render(sections=[])).text
    columns = (Column("speedup", "Speed-up"),)
    rows = Row("Theseus", (Cell(None, notes=(NOT_MEASURED,)),)), Row("BERT-PKD", (Cell(1.9),))
    partly = Section("one", "One", [Table("Partly", "Its caption.", columns, rows)])
    assert "Speed-up: not measured for Theseus." in Page(render(sections=[partly])).text
    runs_without_times = make_runs({1: ("complete", "", float("nan"))})
    assert "Training time was not recorded for 1 of the runs" in Page(render(runs=runs_without_times)).text
    assert "Training time was not recorded" not in text, "a missing run has no time to record"


def test_environment():
    text = Page(render(environment={"data": "nyu-mll/glue at bcdcba79", "gpu": "H200"})).text
    assert "data nyu-mll/glue at bcdcba79 gpu H200" in text
    assert "The environment of these runs is not recorded." in Page(render(environment={})).text


def test_a_long_table_and_all_but_the_first_are_folded():
    rows = tuple(Row(f"row {i}", (Cell(None), Cell(1.0))) for i in range(50))
    long = replace(make_table("Long"), rows=rows)
    folded_tables = [
        "details" in Page(render(sections=[Section("one", "First", tables)])).tags
        for tables in ([make_table()], [make_table(), make_table("Another")], [long])
    ]
    assert folded_tables == [False, True, True]


def test_checklist_marks_blanks(tmp_path):
    text = Page(render_html(full_report(tmp_path), TEMPLATES)).text
    assert f"A1: limitations {BLANK}" in text
    (table, _) = checklist_tables(full_report(tmp_path).checklist)
    assert [(column.key, column.header) for column in table.columns] == [("answer", "Answer"), ("where", "Where")]
    assert "C1: model size 67 million run.json" in text
    assert "1 of 2 items of ACL are filled in" in text
    assert text.index("ACL checklist.") < text.index("NeurIPS checklist.")


def test_figures_and_files_are_linked(tmp_path):
    text = render_html(full_report(tmp_path), TEMPLATES)
    assert SVG in text
    assert "--drawn: 240pt" in text
    links = {"figures/line.svg", "figures/line.pdf", "../tables/one.csv", "../ro-crate-metadata.json", "report.pdf"}
    assert links <= set(Page(text).links)


@pytest.mark.parametrize(("files", "image"), [(("a.pdf", "a.png"), "![A line](a.png)"), (("a.pdf",), "")])
def test_markdown_shows_the_file_of_a_figure_that_it_can(files, image):
    figure = ReportFigure("line", "A line", "It falls.", SVG, files)
    text = render_markdown(make_report(sections=[Section("one", "One", [], [figure])]))
    assert f"{image}\n\n**A line.** It falls." in text
    assert text.count("![") == bool(image)


def hostile_report():
    hostile = "<script>alert('x')</script> | `a`\n* [b](c) " + "w" * 3000
    return make_report(
        suite=hostile,
        backbone=hostile,
        notes=[hostile],
        runs=make_runs().assign(label=hostile, reason=hostile),
        findings=[Finding(hostile, hostile, hostile, hostile)],
        claims=make_claims(hostile),
        sections=[
            Section(
                'x"><b>', hostile, [make_table(hostile, hostile, hostile)], [ReportFigure("x", hostile, hostile, SVG)]
            )
        ],
        environment={hostile: hostile},
        checklist=[CheckItem(hostile, hostile, hostile, hostile)],
        links={hostile: "a)b c"},
    )


def test_hostile_text_is_escaped(tmp_path):
    text = render_html(hostile_report(), TEMPLATES)
    tags = Page(text).tags
    assert tags.count("script") == 1, "ours"
    assert "b" not in tags
    assert "&lt;script&gt;" in text
    markdown = render_markdown(hostile_report())
    assert "<script" not in markdown
    assert "a%29b%20c" in markdown
    write_pdf(hostile_report(), tmp_path / "report.pdf", TEMPLATES)
    assert (tmp_path / "report.pdf").stat().st_size > 10_000


def test_an_empty_suite_has_a_report(tmp_path):
    empty = make_report(runs=make_runs({3: STATUSES[3]}), sections=[], environment={})
    write_report(empty, tmp_path, TEMPLATES)
    assert "Of 1 run asked for, 0 are complete, 0 failed, 1 is missing and 0 are excluded." in render_html(
        empty, TEMPLATES
    )


def test_write_report(tmp_path):
    report, folder = full_report(tmp_path), tmp_path / "new" / "report"
    write_report(report, folder, TEMPLATES, "../")
    assert (folder / "index.html").read_text(encoding="utf-8") == render_html(report, TEMPLATES, "../")
    assert (folder / "report.md").read_text(encoding="utf-8") == render_markdown(report, "../")
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "report.md", "report.pdf"]


def test_every_format_has_the_parts_in_one_order(tmp_path):
    parts = {format: [part.anchor for part in report_parts(full_report(tmp_path), format)] for format in EVERYWHERE}
    anchors = ["", "claims", "experiment-one", "gaps", "environment", "checklist"]
    assert parts["page"] == [*anchors, "runs"]
    assert parts["markdown"] == [*anchors, "files"]
    assert parts["paper"] == [*anchors[:3], "method", *anchors[3:]]


def test_markdown_has_all_parts(tmp_path):
    text = render_markdown(full_report(tmp_path), "../")
    words = [
        "# small: theseus-bench report",
        "- What reproduces: **3 of 4 numbers**. One is missing.",
        "Of 4 runs asked for",
        "- This is the demo.",
        "| Theseus beats PKD | holds |",
        "## First (one)",
        "| Theseus | –<sup>a</sup> | 66.4 |",
        "[one.csv](../tables/one.csv)",
        "![A line](figures/line.svg)",
        "the loss became NaN at step 12",
        "- python: 3.11.7",
        BLANK,
        "[Records of the runs](../runs)",
        "[Provenance](../ro-crate-metadata.json)",
    ]
    places = [text.index(part) for part in words]
    assert places == sorted(places)


def test_pdf_has_all_parts(tmp_path, program):
    write_pdf(full_report(tmp_path), tmp_path / "report.pdf", TEMPLATES)
    text = pdf_text(tmp_path / "report.pdf", program("pdftotext"))
    for words in (
        "What reproduces 3 of 4 numbers One is missing.",
        "Of 4 runs asked for",
        "Theseus beats PKD holds",
        "First (one)",
        "66.4",
        "a not measured",
        "A line. It falls.",
        "Model size: 67 million",
        "the loss became NaN at step 12",
        "python: 3.11.7",
        "only the authors can answer 1: ACL A1: limitations.",
    ):
        assert words in text
    pdf_info = subprocess.run([program("pdfinfo"), tmp_path / "report.pdf"], capture_output=True, text=True).stdout
    assert re.search(r"Title: +small: theseus-bench report", pdf_info)


def test_pdf_numbers_its_pages_and_says_that_it_does_not_know_where_it_ran(tmp_path, program):
    write_pdf(make_report(environment={}), tmp_path / "report.pdf", TEMPLATES)
    pages = subprocess.run([program("pdftotext"), tmp_path / "report.pdf", "-"], capture_output=True, text=True).stdout
    pages = pages.split("\f")[:-1]
    assert [page.split()[-1] for page in pages] == [str(number) for number in range(1, len(pages) + 1)]
    assert "The environment of these runs is not recorded." in " ".join(" ".join(pages).split())


def test_pdf_is_the_same_whenever_it_is_made(tmp_path, monkeypatch):
    write_pdf(full_report(tmp_path), tmp_path / "first.pdf", TEMPLATES)
    monkeypatch.setattr("time.time", lambda: 1_935_000_000.0)
    write_pdf(full_report(tmp_path), tmp_path / "second.pdf", TEMPLATES)
    pdf_bytes = (tmp_path / "first.pdf").read_bytes()
    assert pdf_bytes == (tmp_path / "second.pdf").read_bytes()
    assert b"(D:20000101000000Z)" in pdf_bytes, "a date of its own, not that of the day"


def test_pdf_is_tagged_for_screen_readers(tmp_path, program):
    """PDF/UA-1, which the compiler refuses to claim where a figure has no text in its place."""
    write_pdf(full_report(tmp_path), tmp_path / "report.pdf", TEMPLATES)
    pdf_bytes = (tmp_path / "report.pdf").read_bytes()
    assert b"<pdfuaid:part>1</pdfuaid:part>" in pdf_bytes
    assert b"/Lang(en)" in pdf_bytes
    pdf_info = subprocess.run([program("pdfinfo"), tmp_path / "report.pdf"], capture_output=True, text=True).stdout
    assert re.search(r"Tagged: +yes", pdf_info)


@pytest.mark.parametrize("text", ["#panic(1) $x^2$ @a <b> //c", "*bold* _it_ `raw` = head", "[b](c) \\ #let x = {"])
def test_what_is_said_is_no_command_in_the_pdf(tmp_path, program, text):
    report = make_report(
        notes=[text], claims=make_claims(text), sections=[Section("one", text, [make_table(note=text)])]
    )
    write_pdf(report, tmp_path / "report.pdf", TEMPLATES)
    content = pdf_text(tmp_path / "report.pdf", program("pdftotext"))
    assert content.count(text) == 4


def test_a_message_with_control_signs_and_no_rows_stop_no_pdf(tmp_path, program):
    empty = Section("one", "First", [replace(make_table(), rows=())])
    report = make_report(notes=["\x1b[31mred\x00\ud800 中文"], sections=[empty])
    write_pdf(report, tmp_path / "report.pdf", TEMPLATES)
    assert "\ufffd[31mred\ufffd\ufffd" in pdf_text(tmp_path / "report.pdf", program("pdftotext"))


def test_the_pdf_leaves_detail_to_the_page(tmp_path, program):
    """Of nine figures it has five: score against speed, differences and printed numbers, the others in their order."""
    names = ("speed_over_depth", "score_against_speed", "curves", "profile", "retention", "forest", "differences")
    sections = [
        Section(
            name,
            f"Title {name}",
            [make_table("Scores", caption=f"Main {name}."), make_table("Tests", caption=f"Detail {name}.")],
            [ReportFigure(f"{name}-{kind}", f"{name} {kind}", "It falls.", SVG) for kind in names],
            costs=make_table("Costs", caption=f"Spent on {name}."),
        )
        for name in ("one", "two")
    ]
    write_pdf(make_report(sections=sections), tmp_path / "report.pdf", TEMPLATES)
    text = pdf_text(tmp_path / "report.pdf", program("pdftotext"))
    figures = re.findall(r"(one|two) (\w+)\. It falls\.", text)
    kinds = ("score_against_speed", "speed_over_depth", "retention", "forest", "differences")
    assert figures == [("one", kind) for kind in kinds]
    assert [words in text for words in ("Main one.", "Main two.", "Spent on one.")] == [True] * 3
    assert [words in text for words in ("Detail one.", "Detail two.", "Spent on two.")] == [False] * 3


def test_what_all_tables_of_scores_say_stands_once_in_the_pdf(tmp_path, program):
    notes = ("Said of all.", "Said of one."), ("Said of all.", "Said of two.")
    tables = [replace(make_table(), notes=own) for own in notes]
    sections = [Section(name, name, [table]) for name, table in zip(("one", "two"), tables, strict=True)]
    write_pdf(make_report(sections=sections), tmp_path / "report.pdf", TEMPLATES)
    text = pdf_text(tmp_path / "report.pdf", program("pdftotext"))
    assert [text.count(f"Said of {own_note}.") for own_note in ("all", "one", "two")] == [1, 1, 1]
    assert text.index("Said of two.") < text.index("On all tables of scores") < text.index("Said of all.")
    assert render_markdown(make_report(sections=sections)).count("Said of all.") == 2


@pytest.mark.parametrize(("columns", "turned_pages"), [(12, False), (30, True)])
def test_only_a_table_too_wide_for_the_page_is_turned_with_its_heading(tmp_path, program, columns, turned_pages):
    cells = tuple(Cell(50.0, spread=12.5) for _ in range(columns))
    table = Table("Wide", "c", tuple(Column(f"c{i}", "MRPC") for i in range(columns)), (Row("BERT-of-Theseus", cells),))
    sections = [Section("one", "Wide", [table]), Section("two", "After", [make_table()])]
    write_pdf(make_report(sections=sections), tmp_path / "report.pdf", TEMPLATES)
    command = [program("pdfinfo"), "-f", "1", "-l", "9", tmp_path / "report.pdf"]
    sizes = re.findall(r"size: +(\d+)\S* x", subprocess.run(command, capture_output=True, text=True).stdout)
    assert sizes == (["595", "841", "595"] if turned_pages else ["595"])
    command = [program("pdftotext"), "-f", "2", "-l", "2", tmp_path / "report.pdf", "-"]
    assert ("Wide (one)" in subprocess.run(command, capture_output=True, text=True).stdout) == turned_pages


def test_a_table_of_many_sheets_repeats_its_headings_and_loses_no_row(tmp_path, program):
    rows = tuple(Row(f"row-{i:03d}", (Cell(None), Cell(float(i)))) for i in range(150))
    table = replace(make_table("Long"), rows=rows)
    write_pdf(make_report(claims=table), tmp_path / "report.pdf", TEMPLATES)
    text = pdf_text(tmp_path / "report.pdf", program("pdftotext"))
    assert [f"row-{i:03d}" in text for i in range(150)] == [True] * 150
    assert text.count("Speed-up RTE") >= 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (12.4, "12 s"), (60, "1 min"), (250, "4 min 10 s"), (7500, "2 h 5 min"), (273600, "3 d 4 h")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_style_has_enough_contrast():
    """WCAG AA, 4.5, of every text colour on both grounds, in light, dark and print."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    css = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    themes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{([^}]*)\}", css)]
    assert len(themes) == 3
    for theme in themes:
        for text in ("ink", "quiet", "link", "complete", "failed", "missing"):
            for ground in ("page", "shade"):
                dark, light = sorted([luminance(theme[text]), luminance(theme[ground])])
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground, theme)


def test_a_long_table_is_left_to_its_files_on_paper():
    columns = (Column("rte", "RTE"),)
    rows = tuple(Row(f"Method {i}", (Cell(float(i)),)) for i in range(41))
    report = make_report(sections=[Section("one", "One", [Table("Long", "All of them.", columns, rows)])])
    assert "41 rows: on the report's page" in render_markdown(report)
    assert "Method 40" not in render_markdown(report)
    assert "Method 40" in Page(render_html(report, TEMPLATES)).text
