"""The report: self-contained, complete, and honest about what is absent."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from theseus_bench.report import Section, duration, render_report, write_report
from theseus_bench.table_formats import Cell, Column, Row, Table
from theseus_bench.tables import NOT_MEASURED

TEMPLATES = Path(__file__).parents[2] / "report"
SUMMARY = {"backbone": "bert-base-uncased", "statistic": "median"}
STATUSES = {
    1: ("complete", "", 100.0),
    2: ("failed", "the loss became NaN at step 12", 50.0),
    3: ("missing", "the job was killed", float("nan")),
    4: ("excluded", "no regression objective", float("nan")),
}


def make_runs(statuses=STATUSES):
    rows = []
    for seed, (status, reason, seconds) in statuses.items():
        run = {"method": "theseus", "variant": "constant", "task": "rte", "seed": seed, "status": status}
        path = f"runs/theseus@constant/rte/seed-{seed}"
        about = {"path": path, "seconds": seconds, "parameters": 67e6, "label": "Theseus, constant", "role": "proposed"}
        rows.append({**run, "reason": reason, **about})
    return pd.DataFrame(rows)


def make_table(title="A table", note=NOT_MEASURED):
    columns = (Column("speedup", "Speed-up"), Column("rte", "RTE"))
    return Table(title, "Its caption.", columns, (Row("Theseus", (Cell(None, notes=(note,)), Cell(66.4))),))


def render(runs=None, sections=None, environment=None, **changes):
    return render_report(
        changes.pop("suite", "small"),
        {**SUMMARY, **changes.pop("summary", {})},
        [Section("glue_dev", "GLUE dev", [make_table()])] if sections is None else sections,
        make_runs() if runs is None else runs,
        {"python": "3.11.7"} if environment is None else environment,
        TEMPLATES,
        **changes,
    )


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
        if self.tags[-1:] != ["style"]:
            self.text += data


def test_nothing_is_fetched():
    text = render()
    page = Page(text)
    assert page.links, "the page has links, all within it or beside it"
    assert not [link for link in page.links if re.match(r"[a-z]+:|//", link)]
    assert "http" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert not set(page.tags) & {"link", "script", "img", "iframe", "object"}


def test_links_within_the_page_have_targets():
    page = Page(render())
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert "experiment-glue_dev" in inner
    assert inner <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_first_screen_says_what_was_run():
    text = Page(render()).text
    assert "1 method on 1 task, all starting from bert-base-uncased, each with the seeds 1, 2, 3 and 4." in text
    assert "The tables give the median over the seeds" in text
    assert "Of 4 runs asked for, 1 is complete, 1 failed, 1 is missing and 1 is excluded;" in text
    assert "Training took 150 device-seconds in total (2 min 30 s)." in text
    searched = Page(render(summary={"search_seconds": 7230.0})).text
    assert "in total (2 min 30 s), searching their settings before that 2 h." in searched


def test_all_complete_is_said_plainly():
    text = Page(render(make_runs({1: ("complete", "", 5.0)}))).text
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
    assert "Of 4 runs asked for" in Page(render(pd.concat([runs, runs]))).text


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
    text = Page(render(summary={"notes": ["This is the demo."]})).text
    assert "Speed-up was not measured for Theseus." in text
    assert "This is the demo." in text
    assert "was not measured" not in Page(render(sections=[])).text
    untimed = make_runs({1: ("complete", "", float("nan"))})
    assert "Training time was not recorded for 1 of the runs" in Page(render(untimed)).text
    assert "Training time was not recorded" not in text, "a missing run has no time to record"


def test_environment():
    text = Page(render(environment={"data": "nyu-mll/glue at bcdcba79", "gpu": "H200"})).text
    assert "data nyu-mll/glue at bcdcba79 gpu H200" in text
    assert "The environment of these runs is not recorded." in Page(render(environment={})).text


def test_hostile_text_is_escaped():
    hostile = "<script>alert('x')</script>"
    runs = make_runs().assign(label=hostile, reason=hostile)
    section = Section('x"><b>', hostile, [make_table(hostile, note=hostile)])
    text = render(runs, [section], {hostile: hostile}, suite=hostile, summary={"backbone": hostile, "notes": [hostile]})
    assert not set(Page(text).tags) & {"script", "b"}
    assert "&lt;script&gt;" in text


def test_write_report(tmp_path):
    path = tmp_path / "new" / "report.html"
    write_report(path, "small", SUMMARY, [], make_runs(), {}, TEMPLATES)
    assert path.read_text(encoding="utf-8") == render(sections=[], environment={})
    assert list(path.parent.iterdir()) == [path]


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
