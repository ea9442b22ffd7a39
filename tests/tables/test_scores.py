"""The tables against numbers computed by hand and against golden files.

The golden files in tests/tables/golden are the renderings of `small_case` with all that a table can show. After a
change that is meant, rewrite them with `THESEUS_GOLDEN=write pytest tests/tables/test_scores.py`, which fails, and read
the difference before committing it.
"""

import csv
import io
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from theseus_bench.data.tasks import Task
from theseus_bench.report.run_lists import gaps_table, runs_table
from theseus_bench.tables.formats import to_csv, to_html, to_markdown, write_table
from theseus_bench.tables.latex import to_latex
from theseus_bench.tables.model import Cell, Column, Row, Table
from theseus_bench.tables.scores import ReportedScores, scores_table, with_scores
from theseus_bench.wording import signed

from results import timing_of

GOLDEN = Path(__file__).parent / "golden"
NAN = float("nan")


def make_task(name, label, metrics, train, labels=("no", "yes"), macro=True):
    labels = None if labels is None else list(labels)
    rows = {"train": train, "validation": 100}
    fields = {"name": name, "label": label, "columns": ["sentence"], "labels": labels, "metrics": metrics, "rows": rows}
    return Task(**fields, dev=["validation"], test=["test"], macro=macro, max_length=128)


TASKS = {
    "cola": make_task("cola", "CoLA", ["matthews"], 8551),
    "rte": make_task("rte", "RTE", ["accuracy"], 2490),
    "stsb": make_task("stsb", "STS-B", ["pearson", "spearman"], 5749, labels=None),
    "wnli": make_task("wnli", "WNLI", ["accuracy"], 635, macro=False),
}
METHODS = {
    ("majority", ""): ("Majority class", "control", NAN),
    ("predecessor", ""): ("Predecessor", "teacher", 109.5e6),
    ("finetune", ""): ("Fine-tuning", "baseline", 67e6),
    ("pkd", ""): ("BERT-PKD", "baseline", 67e6),
    ("theseus", ""): ("Theseus", "proposed", 67e6),
    ("theseus", "constant"): ("Theseus, constant rate", "proposed", 67e6),
    ("pkd", "equal"): ("BERT-PKD (equal)", "baseline", 67e6),
    ("theseus", "equal"): ("Theseus (equal)", "proposed", 67e6),
}
# seed 1, 2, 3 of each task; None: the run is missing
POINTS = {
    ("majority", ""): {"cola": [0, 0, 0], "rte": [52.7] * 3, "stsb": [0, 0, 0], "wnli": [56.3] * 3},
    ("predecessor", ""): {"cola": [54, 55, 59], "rte": [70, 71, 72], "stsb": [88, 89, 89], "wnli": [56.3] * 3},
    ("finetune", ""): {"cola": [43, 41, 45], "rte": [62, 60, 52.7], "stsb": [81, 82, 84], "wnli": [56.3] * 3},
    ("pkd", ""): {"cola": [45, 46, 47], "rte": [66, 66, 67], "stsb": [None] * 3, "wnli": [56.3] * 3},
    ("theseus", ""): {"cola": [50, 51, 55], "rte": [68, None, 69], "stsb": [88, 88, 90], "wnli": [56.3] * 3},
    ("theseus", "constant"): {"cola": [44, 44, 45], "rte": [None] * 3, "stsb": [88.2] * 3, "wnli": [56.3] * 3},
    ("pkd", "equal"): {"cola": [46, 47, 48], "rte": [69, 69, 70], "stsb": [86, 86, 87], "wnli": [56.3] * 3},
    ("theseus", "equal"): {"cola": [47, 48, 49], "rte": [68, 68, 69], "stsb": [87, 87, 88], "wnli": [56.3] * 3},
}
SPEED = {
    "predecessor": timing_of(speedup=1.0, low=0.99, high=1.01, latency_ms=10.0),
    "finetune": timing_of(speedup=1.94, low=1.9, high=1.98, latency_ms=5.15),
    "theseus@constant": timing_of(speedup=1.93, low=1.9, high=1.96, latency_ms=5.2),
    "pkd@equal": timing_of(speedup=1.94, low=1.91, high=1.97, latency_ms=5.15),
    "theseus@equal": timing_of(speedup=1.95, low=1.91, high=1.99, latency_ms=5.1),
}
SIGNIFICANT = {
    ("theseus", "cola"): "better",
    ("theseus", "rte"): "better",
    ("theseus", "macro"): "better",
    ("theseus@constant", "rte"): "better",  # there is no score to mark
    ("pkd@equal", "stsb"): "worse",
}
REMARK = "† significantly better, ‡ significantly worse than Fine-tuning."
PAPER_SCORES = {"cola": 51.1, "rte": 68.2, "stsb": 88.7, "macro": 81.2}
REPORTED = {
    "predecessor": [ReportedScores("A paper, Table 2", {"cola": 54.3, "rte": 71.1, "stsb": 88.9})],
    "pkd": [
        ReportedScores("A paper, Table 2", {"cola": 45.5, "rte": 66.5, "stsb": 86.2}),
        ReportedScores("Result files", {"rte": 68.2}, "the printed number is the best of its runs"),
    ],
    "theseus": [ReportedScores("A paper, Table 2", PAPER_SCORES)],
    "theseus@equal": [ReportedScores("A paper, Table 2", PAPER_SCORES)],
}


def small_case():
    """Scores and runs with a failed run, an excluded task, a missing seed, and a task that is missing altogether."""
    runs, scores = [], []
    for (method, variant), points in POINTS.items():
        label, role, parameters = METHODS[method, variant]
        for task, values in points.items():
            for seed, value in enumerate(values, start=1):
                status, reason = ("missing", "killed") if value is None else ("complete", "")
                if (method, variant, task) == ("pkd", "", "stsb"):
                    status, reason = "excluded", "no regression"
                if (method, task, seed) == ("finetune", "rte", 3):
                    status, reason = "failed", "at the majority class"
                name = f"{method}@{variant}" if variant else method
                run = {"method": method, "variant": variant, "task": task, "seed": seed}
                path = f"runs/{name}/{task}/seed-{seed}"
                seconds = NAN if value is None else 60.0 * seed
                properties = {"path": path, "seconds": seconds, "parameters": parameters, "label": label, "role": role}
                held_out = variant == "equal" or (role == "teacher" and seed == 3)
                chosen_on = "nothing" if role == "control" else "held_out" if held_out else "dev"
                properties |= {"chosen_on": "" if value is None else chosen_on, "evaluations": 3 + seed}
                runs.append({**run, "status": status, "reason": reason, **properties})
                if value is not None:
                    where = {"suite": "small", "experiment": "glue", **run}
                    scores.append({**where, "split": "dev", "metric": "score", "value": float(value)})
                    scores.append({**where, "split": "validation", "metric": "accuracy", "value": 1.0})
    return pd.DataFrame(scores), pd.DataFrame(runs)


def small_table(statistic, **changes):
    scores, runs = small_case()
    arguments = {"scores": scores, "runs": runs, "speed": SPEED, "tasks": TASKS, "title": "Small case", **changes}
    return scores_table(statistic=statistic, **arguments)


def cell(table, label, key):
    row = next(row for row in table.rows if row.label == label)
    return row.cells[[column.key for column in table.columns].index(key)]


def one_cell_table(label="A", **fields):
    return Table("T", "c", (Column("x", "X"),), (Row(label, (Cell(1.0, **fields),)),))


FORMATS = {"csv": to_csv, "md": to_markdown, "tex": to_latex, "html": to_html}


def marked_table(statistic="mean", **changes):
    """The small case with marks of significance and printed numbers."""
    arguments = {"daggers": SIGNIFICANT, "significance_remark": REMARK, "reported_scores": REPORTED}
    return small_table(statistic, **arguments | changes)


@pytest.mark.parametrize("name", ["scores", "scores_median"])
@pytest.mark.parametrize("ending", FORMATS)
def test_golden(name, ending):
    path = GOLDEN / f"{name}.{ending}"
    table = marked_table() if name == "scores" else small_table("median")
    text = FORMATS[ending](table)
    if os.environ.get("THESEUS_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8", newline="\n")
        pytest.fail(f"{path.name} is rewritten: read its difference, and test without THESEUS_GOLDEN")
    assert text.encode() == path.read_bytes()


def test_median_mean_and_sample_deviation():
    median, mean = (cell(small_table(s), "Predecessor", "cola") for s in ("median", "mean"))
    assert (median.value, median.spread) == (55, None)
    assert mean.value == 56
    assert mean.spread == pytest.approx(math.sqrt((4 + 1 + 9) / 2), abs=1e-9)
    assert median.data == {"sd": mean.spread, "n": 3, "failed": 0}


def test_macro_is_the_mean_of_the_medians_with_and_without_cola():
    table = small_table("median")
    assert cell(table, "Fine-tuning", "macro").value == pytest.approx((43 + 60 + 82) / 3)
    assert cell(table, "Fine-tuning", "macro_without_cola").value == pytest.approx((60 + 82) / 2)


def test_spread_of_the_macro_is_that_of_the_seeds_macros():
    macro = cell(small_table("mean"), "Predecessor", "macro")
    by_seed = [(54 + 70 + 88) / 3, (55 + 71 + 89) / 3, (59 + 72 + 89) / 3]
    mean = sum(by_seed) / 3
    assert macro.value == pytest.approx(mean)
    assert macro.spread == pytest.approx(math.sqrt(sum((m - mean) ** 2 for m in by_seed) / 2))


def test_macro_needs_a_score_on_every_macro_task():
    table = small_table("median")
    for label, scores_without_task in (("BERT-PKD", "STS-B"), ("Theseus, constant rate", "RTE")):
        assert cell(table, label, "macro").value is None
        assert cell(table, label, "macro").notes == (f"no macro without a score on {scores_without_task}",)


def test_macro_columns_only_where_they_say_something():
    _scores, runs = small_case()
    for names, macros in ((["cola", "rte"], ["macro"]), (["rte", "stsb"], ["macro"]), (["rte", "wnli"], [])):
        table = small_table("median", runs=runs[runs["task"].isin(names)])
        assert [column.key for column in table.columns][4:] == names + macros


def test_one_seed_has_no_deviation():
    _scores, runs = small_case()
    score_cell = cell(small_table("mean", runs=runs[runs["seed"] == 1]), "Predecessor", "cola")
    assert (score_cell.value, score_cell.spread, score_cell.data["n"], score_cell.notes) == (54, None, 1, ())


def test_a_failed_run_counts_and_is_marked_and_the_score_without_it_is_said():
    score_cell = cell(small_table("mean"), "Fine-tuning", "rte")
    assert score_cell.value == pytest.approx((62 + 60 + 52.7) / 3)
    assert score_cell.data["failed"] == 1
    assert score_cell.notes == ("1 of 3 runs failed: at the majority class; without them 61.0",)
    macro = cell(small_table("mean"), "Fine-tuning", "macro")
    assert macro.data["failed"] == 1
    assert macro.notes == (f"1 of 9 runs failed; without them {(43 + 61 + 247 / 3) / 3:.1f}",)
    median = cell(small_table("median"), "Fine-tuning", "macro")
    assert median.notes == (f"1 of 9 runs failed; without them {(43 + 61 + 82) / 3:.1f}",)


def test_where_all_runs_failed_there_is_no_score_without_them():
    _scores, runs = small_case()
    runs.loc[(runs["method"] == "finetune") & (runs["task"] == "rte"), ["status", "reason"]] = ("failed", "diverged")
    table = small_table("mean", runs=runs)
    assert cell(table, "Fine-tuning", "rte").notes == ("3 of 3 runs failed: diverged",)
    assert cell(table, "Fine-tuning", "macro").notes == ("3 of 9 runs failed; without them there is no macro",)


def test_a_run_that_was_never_evaluated_is_counted_at_the_majority_and_that_is_said():
    _scores, runs = small_case()
    never = (runs["method"] == "finetune") & (runs["task"] == "rte") & (runs["seed"] == 3)
    score_cell = cell(small_table("mean", runs=runs.assign(never_evaluated=never)), "Fine-tuning", "rte")
    assert score_cell.value == pytest.approx((62 + 60 + 52.7) / 3)
    assert score_cell.notes[-1] == "1 never evaluated, counted at the majority's score"


def test_a_failed_run_without_a_score_is_marked_too():
    scores, _runs = small_case()
    scores.loc[(scores["method"] == "finetune") & (scores["task"] == "rte") & (scores["seed"] == 3), "value"] = NAN
    score_cell = cell(small_table("mean", scores=scores), "Fine-tuning", "rte")
    assert (score_cell.value, score_cell.data["n"], score_cell.data["failed"]) == (61, 2, 1)
    assert score_cell.notes == ("1 of 3 runs failed: at the majority class; without them 61.0", "2 of 3 seeds")


def test_gaps_say_why():
    table = small_table("median")
    notes = {
        ("BERT-PKD", "stsb"): "excluded: no regression",
        ("Theseus, constant rate", "rte"): "missing: killed",
        ("BERT-PKD", "speedup"): "not measured",
        ("Majority class", "parameters_millions"): "not applicable: there is no trained model",
    }
    for (label, key), note in notes.items():
        assert cell(table, label, key) == replace(cell(table, label, key), value=None, notes=(note,))
    assert cell(table, "Theseus", "rte").notes == ("2 of 3 seeds; missing: killed",)


def test_a_missing_run_has_no_score_even_if_one_lies_about():
    _scores, runs = small_case()
    runs.loc[(runs["method"] == "pkd") & (runs["task"] == "cola"), "status"] = "missing"
    assert cell(small_table("median", runs=runs), "BERT-PKD", "cola").value is None


def test_complete_run_without_a_score_is_a_gap_with_a_reason():
    scores, _runs = small_case()
    scores = scores[~((scores["method"] == "pkd") & (scores["task"] == "cola"))]
    score_cell = cell(small_table("median", scores=scores), "BERT-PKD", "cola")
    assert (score_cell.value, score_cell.notes) == (None, ("no score was recorded",))


def test_only_the_dev_score_counts_and_experiments_share_runs():
    scores, runs = small_case()
    again = scores.assign(experiment="another")
    test = scores.assign(split="test", value=0.0)
    table = small_table("mean", scores=pd.concat([scores, again, test]), runs=pd.concat([runs, runs]))
    assert table == small_table("mean")


def test_variants_read_back_from_a_file_are_the_same():
    scores, runs = (pd.read_csv(io.StringIO(frame.to_csv(index=False))) for frame in small_case())
    assert scores["variant"].isna().any()
    assert small_table("mean", scores=scores, runs=runs) == small_table("mean")


def test_no_run_and_no_score_at_all():
    scores, runs = small_case()
    runs = runs.assign(status="missing", reason="", seconds=NAN, parameters=NAN)
    table = small_table("median", scores=scores[:0], runs=runs, speed={})
    assert {cell(table, row.label, "seeds").value for row in table.rows} == {0}
    assert all(c.value is None and c.notes for row in table.rows for c in row.cells[:2] + row.cells[4:])
    assert "missing: no reason recorded" in table.footnotes


def test_unknown_statistic():
    with pytest.raises(ValueError, match="mode"):
        small_table("mode")


def test_marks_leave_out_teacher_and_control():
    table = small_table("median")
    assert [cell(table, label, "cola").mark for label in ("Majority class", "Predecessor")] == ["", ""]
    assert cell(table, "Theseus", "cola").mark == "best"
    assert cell(table, "BERT-PKD", "cola").mark == "second"
    assert {row.cells[0].mark for row in table.rows} == {""}


def test_each_protocol_has_a_best_of_its_own():
    table = small_table("median")
    assert cell(table, "Theseus (equal)", "cola").mark == "best"
    assert cell(table, "BERT-PKD (equal)", "cola").mark == "second"
    assert "compressed models of each protocol" in " ".join(table.notes)


def test_marks_of_ties():
    def marks(points):
        method_indices = {"finetune": 0, "pkd": 1, "theseus": 2}
        scores, runs = small_case()
        runs = runs[runs["method"].isin(method_indices) & (runs["variant"] == "") & (runs["task"] == "cola")]
        scores = scores.assign(value=[points[method_indices.get(method, 0)] for method in scores["method"]])
        return [row.cells[4].mark for row in small_table("median", scores=scores, runs=runs).rows]

    assert marks([50, 60, 60]) == ["", "best", "best"]
    assert marks([50, 50, 60]) == ["second", "second", "best"]
    assert marks([50, 50, 50]) == ["", "", ""]
    assert marks([50, 60.01, 60.04]) == ["", "best", "best"], "equal as shown is equal in rank"


def test_the_same_footnote_shares_one_letter():
    table = small_table("median")
    assert cell(table, "BERT-PKD", "speedup").notes == cell(table, "Theseus", "speedup").notes == ("not measured",)
    letter = table.footnotes["not measured"]
    assert to_latex(table).count(rf"--\rlap{{\textsuperscript{{{letter}}}}}") == 2
    assert to_html(table).count(f"<sup>{letter}</sup>") == 3  # two cells and the note
    assert sorted(table.footnotes.values()) == list("abcdefghijk")


def test_letters_go_on_after_z():
    rows = tuple(Row(str(i), (Cell(None, notes=(f"note {i}",)),)) for i in range(28))
    table = Table("T", "c", (Column("x", "X"),), rows)
    assert [table.footnotes[f"note {i}"] for i in (0, 25, 26, 27)] == ["a", "z", "aa", "ab"]


def test_csv_is_plain_numbers():
    rows = list(csv.DictReader(io.StringIO(to_csv(small_table("mean")))))
    fine = rows[2]
    assert [fine[key] for key in ("method", "variant", "role")] == ["finetune", "", "baseline"]
    assert float(fine["rte"]) == pytest.approx((62 + 60 + 52.7) / 3)
    assert (fine["rte_n"], fine["rte_failed"], fine["parameters_millions"]) == ("3", "1", "67")
    assert (rows[3]["stsb"], rows[3]["stsb_n"]) == ("", "0")
    for row in rows:
        for name in [key for key in row if key not in ("method", "variant", "role", "label", "notes")]:
            if name.endswith("_significant") or name == "chosen":
                continue
            assert row[name] == "" or math.isfinite(float(row[name])), name


def test_latex_escapes_special_characters():
    text = to_latex(one_cell_table(r"50% & $1 #2 a_b {c} ~ ^ \x <y> é – ×"))
    row = (
        r"50\% \& \$1 \#2 a\_b \{c\} \textasciitilde{} \textasciicircum{} \textbackslash{}x \textless{}y\textgreater{}"
    )
    assert rf"{row} é -- $\times$ & 1.0 \\" in text


def test_latex_row_that_begins_with_a_bracket_or_a_star():
    for label, safe in (("[1]", "{[}1]"), ("*x", "{*}x")):  # after \\ either would be taken for its argument
        assert f"\n{safe} & 1.0" in to_latex(one_cell_table(label))


def test_latex_rows_have_the_same_number_of_cells():
    table = small_table("mean")
    lines = [line for line in to_latex(table).splitlines() if re.search(r"\\\\\*?$", line)]
    assert {line.count("&") for line in lines} == {len(table.columns)}
    assert len(lines) == len(table.rows) + 3


def test_long_table_breaks_across_pages():
    rows = tuple(Row(str(i), (Cell(1.0),)) for i in range(37))
    text = to_latex(Table("T", "c", (Column("x", "X"),), rows))
    assert r"\begin{longtable}" in text
    assert "tabular" not in text
    assert r"\begin{tabular}" in to_latex(Table("T", "c", (Column("x", "X"),), rows[:36]))


def test_markdown_escapes_what_would_break_the_table():
    text = to_markdown(one_cell_table("a|b *c* <i> _d_\ne"))
    assert r"| a\|b \*c\* &lt;i&gt; \_d\_ e | 1.0 |" in text


def test_html_escapes_a_hostile_label_and_note():
    hostile = "<script>alert(1)</script>\" onload='x'"
    text = to_html(one_cell_table(hostile, notes=(hostile,)))
    assert "<script" not in text
    assert "alert(1)" in text
    tree = ElementTree.fromstring(f"<div>{text}</div>")
    assert tree.find(".//tbody/tr/th").text == hostile
    assert tree.find(".//td").attrib == {"class": "number", "data-value": "1", "title": hostile}


def test_html_is_well_formed_with_scopes():
    tree = ElementTree.fromstring(f"<div>{to_html(small_table('mean'))}</div>")
    assert {th.get("scope") for th in tree.findall(".//thead//th")} == {"col"}
    assert [th.text for th in tree.findall(".//tbody//th[@scope='row']")] == [m[0] for m in METHODS.values()]
    assert tree.find(".//caption") is not None
    assert "failed" in tree.find(".//td[@title='1 of 3 runs failed: at the majority class; without them 61.0']").get(
        "class"
    )


def test_all_formats_show_the_same_numbers():
    table = small_table("median")
    cell_texts = [
        re.sub(r"<[^>]+>|\*", "", part).strip() for part in to_markdown(table).split("\n")[6].split("|")[1:-1]
    ]
    latex = next(line for line in to_latex(table).splitlines() if line.startswith("Fine-tuning"))
    assert cell_texts[3:8] == ["3", "4–6 on dev", "43.0", "60.0b", "82.0"]
    for text in ("43.0", "82.0", "61.7"):
        assert text in latex
        assert text in to_html(table)
        assert any(text in part for part in cell_texts)


def test_negative_scores_and_negative_zero():
    rows = tuple(Row("A", (Cell(value),)) for value in (-3.21, -0.01))
    text = to_markdown(Table("T", "c", (Column("x", "X"),), rows))
    assert "| −3.2 |" in text
    assert "| 0.0 |" in text


# -- marks of significance, printed numbers, seeds


def lines_of(table):
    return list(csv.DictReader(io.StringIO(to_csv(table))))


def test_daggers_say_better_and_worse_in_every_format():
    table = marked_table()
    rows = {(row["method"], row["variant"], row["role"]): row for row in lines_of(table)}
    theseus, equal = rows["theseus", "", "proposed"], rows["pkd", "equal", "baseline"]
    assert [theseus["cola_significant"], theseus["stsb_significant"]] == ["better", ""]
    assert equal["stsb_significant"] == "worse"
    assert theseus["macro_significant"] == "better"
    assert (theseus["cola"], theseus["rte"]) == ("52", "68.5"), "the numbers stay numbers"
    assert "| **52.0** ± 2.6<sup>†</sup> | **68.5** ± 0.7<sup>†,i</sup> |" in to_markdown(table)
    assert r"\textbf{52.0}\,{$\pm$ 2.6}\rlap{\textsuperscript{\textdagger{}}}" in to_latex(table)
    assert '<strong class="best">52.0</strong><sup>†</sup> <span class="beside">± 2.6</span></td>' in to_html(table)
    for text in (to_markdown(table), to_latex(table), to_html(table)):
        assert len(re.findall(r"†|textdagger\{", text)) == len(re.findall("†", REMARK)) + 3
        assert len(re.findall(r"‡|textdaggerdbl", text)) == len(re.findall("‡", REMARK)) + 1
    assert table.notes[-1] == REMARK


def test_a_gap_has_no_dagger():
    table = marked_table()
    assert cell(table, "Theseus, constant rate", "rte").dagger == ""
    assert [row["rte_significant"] for row in lines_of(table) if row["variant"] == "constant"] == [""]


def test_daggers_need_the_sentence_that_explains_them():
    with pytest.raises(ValueError, match="significance_remark"):
        marked_table(significance_remark="")


def test_a_test_that_finds_nothing_is_said_too():
    assert marked_table(daggers={}).notes[-1] == REMARK


def test_printed_numbers_and_differences_stand_below_their_method():
    table = marked_table()
    labels = [(row.label, row.kind, row.identity) for row in table.rows]
    index = labels.index(("BERT-PKD", "baseline", ("pkd", "", "baseline")))
    assert labels[index + 1 : index + 5] == [
        ("A paper, Table 2", "printed", ("pkd", "", "printed")),
        ("difference", "difference", ("pkd", "", "difference")),
        ("Result files", "printed", ("pkd", "", "printed")),
        ("difference", "difference", ("pkd", "", "difference")),
    ]
    keys = [column.key for column in table.columns]
    reported, difference = (dict(zip(keys, row.cells, strict=True)) for row in table.rows[index + 1 : index + 3])
    assert [reported[key].value for key in ("cola", "rte", "stsb", "wnli", "macro")] == [45.5, 66.5, 86.2, "", ""]
    assert difference["cola"].value == pytest.approx(0.5)
    assert difference["rte"].value == pytest.approx((66 + 66 + 67) / 3 - 66.5)
    assert (difference["cola"].value_text, difference["rte"].value_text) == ("+0.5", "−0.2")
    assert difference["stsb"] == Cell(""), "ours is a gap, which its own cell explains"
    assert difference["seeds"] == Cell("")
    assert "Difference: the mean above less the printed number, in points." in table.notes


def test_a_difference_from_something_else_says_so():
    table = marked_table()
    row = next(row for row in table.rows if row.label == "Result files")
    difference = table.rows[table.rows.index(row) + 1]
    rte = [column.key for column in table.columns].index("rte")
    assert row.cells[rte].notes == ()
    assert difference.cells[rte].notes == ("the printed number is the best of its runs",)
    assert difference.cells[rte].value_text == "−1.9"


def test_printed_numbers_have_no_rank():
    plain, table = (
        small_table("median"),
        marked_table(reported_scores={"finetune": [ReportedScores("Theirs", {"cola": 99.0})]}),
    )
    assert [row for row in table.rows if row.kind not in ("printed", "difference")] == list(
        marked_table(reported_scores={}).rows
    )
    assert {c.mark for row in table.rows if row.kind in ("printed", "difference") for c in row.cells} == {""}
    assert cell(table, "Theseus", "cola").mark == cell(plain, "Theseus", "cola").mark == "best"


@pytest.mark.parametrize(
    ("difference", "text"),
    [(0.4, "+0.4"), (-1.2, "−1.2"), (0.0, "0.0"), (-0.04, "0.0"), (0.04, "0.0"), (10.05, "+10.1")],
)
def test_differences_have_a_sign(difference, text):
    assert signed(difference) == text


def test_seeds_are_counted_over_the_tasks_that_have_scores():
    table = marked_table()
    seeds = {row.label: cell(table, row.label, "seeds") for row in table.rows}
    assert (seeds["Fine-tuning"].value, seeds["Fine-tuning"].value_text) == (3, "")
    assert (seeds["Theseus"].value, seeds["Theseus"].value_text) == (2, "2–3")
    assert (seeds["BERT-PKD"].value, seeds["BERT-PKD"].value_text) == (3, ""), "the excluded task is a gap"
    assert "| 2–3 |" in to_markdown(table)
    assert [row["seeds"] for row in lines_of(table) if row["label"] == "Theseus"] == ["2"]


def test_html_keeps_a_method_and_what_is_printed_of_it_together():
    table = marked_table()
    tree = ElementTree.fromstring(f"<div>{to_html(table)}</div>")
    bodies = [[row.find("th").text for row in body] for body in tree.findall(".//tbody")]
    assert [body[0] for body in bodies] == [m[0] for m in METHODS.values()]
    assert bodies[3] == ["BERT-PKD", "A paper, Table 2", "difference", "Result files", "difference"]
    assert {row.get("class") for body in tree.findall(".//tbody") for row in body[1:]} == {"printed", "difference"}


def test_html_has_the_numbers_in_full_for_sorting():
    tree = ElementTree.fromstring(f"<div>{to_html(small_table('mean'))}</div>")
    fine = next(row for row in tree.findall(".//tbody/tr") if row.find("th").text == "Fine-tuning")
    values = [td.get("data-value") for td in fine.findall("td")]
    assert float(values[5]) == pytest.approx((62 + 60 + 52.7) / 3, abs=1e-7)
    assert "".join(fine.findall("td")[5].itertext()) == "58.2b ± 4.9"
    pkd = next(row for row in tree.findall(".//tbody/tr") if row.find("th").text == "BERT-PKD")
    assert ["data-value" in td.attrib for td in pkd.findall("td")] == [
        td.get("class") == "number" for td in pkd.findall("td")
    ]


def test_runs_table_lists_every_run():
    scores, runs = small_case()
    table = runs_table(with_scores(runs, scores), base="../")
    assert len(table.rows) == len(runs)
    row = next(row for row in table.rows if row.kind == "failed")
    assert [c.value for c in row.cells] == ["rte", 3, "failed", 52.7, 180.0, "at the majority class"]
    assert row.cells[1].href == "../runs/finetune/rte/seed-3/run.json"
    missing = next(row for row in table.rows if row.kind == "missing")
    assert [c.value for c in missing.cells][2:] == ["missing", None, None, "killed"]
    assert missing.cells[1].href == ""
    assert "score" not in [column.key for column in runs_table(runs).columns]


def test_gaps_table_joins_seeds_of_one_reason():
    table = gaps_table(small_case()[1])
    rows = [(row.label, *(c.value for c in row.cells)) for row in table.rows]
    assert rows == [
        ("Fine-tuning", "failed", "rte", "3", "at the majority class"),
        ("Theseus", "missing", "rte", "2", "killed"),
        ("Theseus, constant rate", "missing", "rte", "1, 2, 3", "killed"),
        ("BERT-PKD", "excluded", "stsb", "1, 2, 3", "no regression"),
    ]


def test_runs_and_gaps_have_a_name_a_header_and_a_unit_for_each_column():
    scores, runs = small_case()
    columns = runs_table(with_scores(runs, scores)).columns
    assert [(c.key, c.header, *c.subheader) for c in columns] == [
        ("task", "Task"), ("seed", "Seed"), ("status", "Status"), ("score", "Score", "points"),
        ("seconds", "Training", "seconds"), ("reason", "Reason"),
    ]  # fmt: skip
    table = gaps_table(runs)
    assert to_csv(table).splitlines()[:2] == [
        "method,variant,label,status,task,seeds,reason,notes",
        "finetune,,Fine-tuning,failed,rte,3,at the majority class,",
    ]
    assert [c.header for c in table.columns] == ["Status", "Task", "Seeds", "Reason"]


@pytest.mark.parametrize(
    ("rows", "size"),
    [(635, "635"), (999, "999"), (1000, "1.0k"), (9949, "9.9k"), (9950, "10k"), (392_702, "393k")],
)
def test_the_size_of_a_training_set_is_shown_in_thousands(rows, size):
    tasks = {name: task.model_copy(update={"rows": {"train": rows}}) for name, task in TASKS.items()}
    columns = {column.key: column for column in small_table("mean", tasks=tasks).columns}
    assert columns["rte"].subheader == ("Acc.", size)


def test_text_that_wraps_makes_a_table_that_breaks_across_pages_in_latex():
    columns = (Column("x", "X", text=True),)
    short, long = (Table("T", "c", columns, (Row("A", (Cell("a" * size),)),)) for size in (28, 29))
    assert "longtable" not in to_latex(short)
    assert r"\begin{longtable}" in to_latex(long)


def test_a_table_of_up_to_five_columns_takes_one_column_of_the_page_in_latex():
    cells = Table("T", "c", tuple(Column(f"x{i}", "X") for i in range(6)), (Row("A", (Cell(1.0),) * 6),))
    five = Table("T", "c", cells.columns[:5], (Row("A", (Cell(1.0),) * 5),))
    assert r"\begin{table*}[tp]" in to_latex(cells)
    assert r"\begin{table}[tp]" in to_latex(five)
    assert to_latex(five).rstrip().endswith(r"\end{table}")


def test_write_table_writes_four_files_and_leaves_nothing_else(tmp_path, monkeypatch):
    table = small_table("median")
    paths = write_table(table, tmp_path / "tables", "glue")
    assert sorted(path.name for path in paths) == ["glue.csv", "glue.html", "glue.md", "glue.tex"]
    assert sorted((tmp_path / "tables").iterdir()) == sorted(paths)
    assert (tmp_path / "tables/glue.md").read_text(encoding="utf-8") == to_markdown(table)

    def full_disk(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_table(small_table("mean"), tmp_path / "tables", "glue")
    assert sorted((tmp_path / "tables").iterdir()) == sorted(paths), "no unfinished file is left"
    assert (tmp_path / "tables/glue.md").read_text(encoding="utf-8") == to_markdown(table), "the old file is whole"
