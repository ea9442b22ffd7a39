"""The report's page in a real browser: quiet, by itself, sorted, filtered, legible on a phone and open to all readers.

The browser is the system's Chromium. Without one these tests are skipped, but in CI they fail.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from theseus_bench.report.checklist import CheckItem
from theseus_bench.report.content import Finding, Report, ReportFigure, Section
from theseus_bench.report.html import render_html
from theseus_bench.tables.model import Cell, Column, Row, Table

TEMPLATES = Path(__file__).parents[2] / "report"
HOSTILE = "<img src=http://example.org/x onerror=alert(1)> & “quotes”"
SCORES = [70.5, -3.25, None, 100.0, 8.125, 70.25, None, 9.5, 61.0, 62.0]
SVG = (
    '<svg role="img" viewBox="0 0 480 200" aria-labelledby="{0}"><title id="{0}">{1}</title>'
    '<text x="20" y="100" font-size="9">Score (points)</text></svg>'
)
SPEED = '<svg viewBox="0 0 497 230" role="img" aria-label="Score against speed"><path d="M0 0L497 230"/></svg>'
LATER = 12_000  # milliseconds; the machine may be busy
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


def scores_table() -> Table:
    """Ten methods, the second with what is printed of it; gaps and a negative number."""
    columns = (Column("rte", "RTE", ("Acc.",)), Column("verdict", "Verdict", text=True))
    rows = []
    for i, score in enumerate(SCORES):
        notes = () if score is not None else ("missing: the job was killed",)
        verdict = "holds" if i % 2 else HOSTILE
        rows.append(Row(f"Method {i}", (Cell(score, notes=notes), Cell(verdict))))
        if i == 1:
            rows.append(Row("printed", (Cell(99.0), Cell("")), kind="printed"))
            rows.append(Row("difference", (Cell(-102.25), Cell("")), kind="difference"))
    return Table("Scores", "Medians over the seeds.", columns, tuple(rows), ("A note.",))


def glue_table() -> Table:
    """Of the width that a table of all nine tasks has: names, intervals and deviations are as long as they get."""
    tasks = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI")
    columns = (
        Column("parameters_millions", "Params", ("millions",)),
        Column("speedup", "Speed-up", ("×",), decimals=2),
        Column("seeds", "Seeds", decimals=0),
        Column("chosen", "Chosen", ("best of",), text=True),
        *(Column(task, task, ("Pear./Spear." if task == "STS-B" else "F1/Acc.", "393k")) for task in tasks),
        Column("macro", "Macro"),
        Column("macro_without_cola", "Macro", ("without CoLA",)),
    )
    speed, notes = Cell(1.95, interval=(1.11, 2.98)), ("1 of 3 runs failed",)
    scores = tuple(Cell(88.8, spread=12.1, notes=notes) for _ in columns[4:])
    cells = (Cell(66.9), speed, Cell(3.0), Cell("10 held out"), *scores)
    return Table("GLUE", "Means.", columns, (Row("BERT-of-Theseus (equal)", cells),))


def wide_table() -> Table:
    columns = tuple(Column(f"c{i}", f"Column {i}") for i in range(14))
    return Table("Wide", "Of many columns.", columns, (Row("Theseus", tuple(Cell(float(i)) for i in range(14))),))


TABLES = (scores_table, wide_table)


def make_report() -> Report:
    columns_of_runs = {"variant": "", "parameters": 1e6, "role": "proposed", "method": "theseus"}
    states = ["complete", "failed", "missing"]
    runs = [
        {
            "task": f"task{i % 7}",
            "seed": i,
            "status": states[i % 3],
            "reason": HOSTILE if i % 3 else "",
            "seconds": i * 1.5,
        }
        | {"label": f"Theseus {HOSTILE}", "path": f"runs/theseus/{i}", "score": float(i)}
        | columns_of_runs
        for i in range(700)
    ]
    names = ("What reproduces", "What does not", "How sure", "At what cost")
    kinds = ("complete", "failed", "missing", "")
    findings = [
        Finding(n, "12 of 71 numbers", f"One sentence. {HOSTILE}", k) for n, k in zip(names, kinds, strict=True)
    ]
    figures = [ReportFigure("one-score_against_speed", "Score against speed", "Up is better.", SPEED)]
    figures += [ReportFigure(n, f"Figure {n}", HOSTILE, SVG.format(n, n), (f"{n}.svg", f"{n}.pdf")) for n in ("a", "b")]
    return Report(
        suite="small",
        subject="Equal effort; MiniLM, 6 → 3 layers; GLUE",
        backbone=HOSTILE,
        statistic="mean",
        runs=pd.DataFrame(runs),
        notes=[HOSTILE],
        findings=findings,
        claims=Table(
            "Claims", HOSTILE, (Column("v", "Verdict", text=True),), (Row("One", (Cell("holds"),), (), "holds"),)
        ),
        sections=[
            Section("one", "First", [scores_table(), wide_table()], figures, {"one.csv": "../tables/one.csv"}),
            Section(
                "two", "Second", [replace(table(), title=f"Other {number}") for number, table in enumerate(TABLES)]
            ),
            Section("nine", "Nine tasks", [glue_table()]),
        ],
        environment={"Processor": HOSTILE},
        checklist=[CheckItem("ACL", "C1", "1 million", "run.json"), CheckItem("NeurIPS", "2: limitations", "", "")],
        links={"Provenance": "../ro-crate-metadata.json"},
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "index.html"
    file.write_text(render_html(make_report(), TEMPLATES, "../"), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def browser(program):
    chromium = program("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield instance
        instance.close()


@pytest.fixture
def open_page(browser, address):
    """Opens the page; at the end, that it said nothing to the console and asked for nothing but itself."""
    pages, messages, requests = [], [], []

    def open_it(**options):
        page = browser.new_page(**{"viewport": DESK} | options)
        page.set_default_timeout(LATER)
        pages.append(page)
        page.on(
            "console", lambda message: messages.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.route("**/*", lambda route: route.continue_() if route.request.url == address else route.abort())
        page.goto(address)
        return page

    yield open_it
    for page in pages:
        page.close()
    assert messages == []
    assert set(requests) == {address}


def order(page) -> list[str]:
    """The labels that are seen in the first table of scores, from top to bottom."""
    return page.locator("#experiment-one table").first.locator("tbody:visible th").all_inner_texts()


def expected(indices, followers=True) -> list[str]:
    labels = []
    for i in indices:
        labels += [f"Method {i}", *(("printed", "difference") if i == 1 and followers else ())]
    return labels


def test_sorting_by_mouse(open_page):
    page = open_page()
    head = page.locator("#experiment-one thead").first.locator("th", has_text="RTE")
    assert head.get_attribute("aria-sort") is None
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert order(page) == expected([1, 4, 7, 8, 9, 5, 0, 3, 2, 6]), "as numbers; gaps last; followers stay"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert order(page) == expected([3, 0, 5, 9, 8, 7, 4, 1, 2, 6]), "gaps last in this direction too"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") is None
    assert order(page) == expected(range(10))


def test_sorting_by_keyboard(open_page):
    page = open_page()
    heads = page.locator("#experiment-one thead").first.locator("th")
    heads.nth(1).get_by_role("button").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert heads.nth(2).get_attribute("aria-sort") == "ascending"
    assert order(page) == expected([0, 2, 4, 6, 8, 1, 3, 5, 7, 9]), "text; equals stay as they were"
    page.keyboard.press("Space")
    assert heads.nth(2).get_attribute("aria-sort") == "descending", "the button has kept the focus"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert [heads.nth(i).get_attribute("aria-sort") for i in range(3)] == [None, "ascending", None]


def test_filtering(open_page):
    page = open_page()
    field = page.get_by_label("Filter rows: Scores")
    count = page.locator("#experiment-one .filter [aria-live=polite]").first
    field.fill("HOLDS method")
    assert order(page) == expected([1, 3, 5, 7, 9]), "every word, whatever its case; followers stay"
    assert count.inner_text() == "5 of 10 rows"
    page.locator("#experiment-one thead").first.locator("th", has_text="RTE").get_by_role("button").click()
    assert order(page) == expected([1, 7, 9, 5, 3]), "what is filtered can be sorted"
    field.fill("nothing like it")
    assert order(page) == []
    assert count.inner_text() == "0 of 10 rows"
    field.focus()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    assert len(order(page)) == 12
    assert count.inner_text() == "10 rows"
    assert page.locator("#claims .filter").count() == 0, "a short table has no filter"


def test_a_long_list_is_shown_in_parts(open_page):
    page = open_page()
    runs = page.locator("#runs")
    runs.locator("summary").click()
    assert runs.locator("tbody:visible").count() == 500
    assert runs.locator(".filter [aria-live]").inner_text() == "700 rows, the first 500 shown"
    runs.locator("thead th", has_text="Training").get_by_role("button").dblclick()
    assert runs.locator("tbody:visible td").nth(1).inner_text() == "699", "the highest of all, not of the first 500"
    runs.locator("input").fill("task3 missing")
    assert runs.locator(".filter [aria-live]").inner_text() == "33 of 700 rows"
    runs.locator("input").fill("")
    runs.get_by_role("button", name="Show all").click()
    assert runs.locator("tbody:visible").count() == 700
    assert runs.locator("a").first.get_attribute("href").startswith("../runs/theseus/")


def test_answers_are_on_the_first_screen(open_page):
    for viewport in (DESK, PHONE):
        page = open_page(viewport=viewport)
        last = page.get_by_role("heading", name="At what cost").bounding_box()
        assert last["y"] < viewport["height"], viewport


def test_a_picture_is_on_the_first_screen(open_page):
    page = open_page()
    picture = page.get_by_role("img", name="Score against speed").bounding_box()
    assert picture["y"] + picture["height"] < DESK["height"]
    assert page.get_by_role("img", name="Score against speed").count() == 1, "and not once more below"


def test_a_table_of_all_tasks_needs_no_scrolling(open_page):
    table = open_page().get_by_role("region", name="GLUE").locator("table")
    macro = table.get_by_role("columnheader", name="Macro without CoLA").bounding_box()
    assert macro["x"] + macro["width"] <= DESK["width"]
    assert table.evaluate("(part) => part.parentElement.scrollWidth == part.parentElement.clientWidth")


def test_detail_is_folded_until_its_experiment_is_asked_for(open_page):
    page = open_page()
    detail = page.locator("#experiment-two .detail")
    assert page.locator("#experiment-two table").first.is_visible()
    assert detail.get_attribute("open") is None
    page.get_by_role("navigation").get_by_role("link", name="Second").click()
    page.wait_for_function("(part) => part.open", arg=detail.element_handle())
    assert page.locator("#experiment-one .detail").get_attribute("open") is None


def test_legible_at_phone_width(open_page):
    page = open_page(viewport=PHONE)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    sizes = """Array.from(document.querySelectorAll("table *, .table-notes *, .filter *, figcaption *"),
        (part) => parseFloat(getComputedStyle(part).fontSize))"""
    assert min(page.evaluate(sizes)) >= 12
    box = page.get_by_role("region", name="Wide")
    assert box.evaluate("(part) => part.scrollWidth > part.clientWidth"), "a wide table scrolls in its own box"
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("(part) => part.scrollLeft > 0", arg=box.element_handle())
    label = box.locator("tbody th").bounding_box()
    assert label["x"] < PHONE["width"] / 4, "the row's label stays"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(open_page, scheme):
    page = open_page(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    page.locator("#experiment-one thead button").first.click()
    page.locator("#runs input").fill("task3 missing")  # axe takes its time with each row
    violations = Axe().run(page).response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in violations] == []


def test_readable_without_script_and_printable(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("#experiment-one table").first.locator("tbody").count() == 10
    page.locator("#runs summary").click()
    assert page.locator("#runs tbody:visible").count() == 700
    assert page.pdf().startswith(b"%PDF-")
