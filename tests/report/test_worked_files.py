"""The worked example's files: their columns by name, header and unit, rows in full, and the report of it all."""

import csv
import io
import json
import re
import subprocess
from contextlib import chdir

import numpy as np
import pytest
from scope import once
from theseus_bench.report.build import suite_report
from theseus_bench.report.content import counts, remarks, scope
from theseus_bench.report.markdown import render_markdown
from theseus_bench.report.pdf import write_pdf
from theseus_bench.tables.experiment import (
    write_description_tables,
    write_score_tables,
    write_search_tables,
    write_verdict_tables,
)
from theseus_bench.tables.formats import markdown_text
from worked import MACRO, ROOT, SEEDS, TASKS, copy_of, macro_of, score_of, scores_of

SCORE_COLUMNS = [
    f"{task}{ending}"
    for task in (*TASKS, "macro", "macro_without_cola")
    for ending in ("", "_sd", "_n", "_significant", "_failed")
]
SCORES = ["method", "variant", "role", "label", "parameters_millions", "speedup", "speedup_low", "speedup_high"]
SCORES += ["speedup_latency_ms", "seeds", "chosen", *SCORE_COLUMNS, "notes"]
SCORES_HEAD = (
    "Method | Params<br>millions | Speed-up<br>× | Seeds | Chosen<br>best of | CoLA<br>Matthews<br>8.6k | "
    "MRPC<br>F1/Acc.<br>3.7k | STS-B<br>Pear./Spear.<br>5.7k | MNLI<br>Acc.<br>3.0k | WNLI<br>Acc.<br>635 | Macro | "
    "Macro<br>without CoLA"
)
# By the ending of the name: the columns of the CSV, the heads of the Markdown, and what it is a table of.
FILES = {
    "": (
        " ".join(SCORES),
        SCORES_HEAD,
        "Mean ± sample standard deviation over the seeds of the score on the dev set, in points.",
    ),
    "_median": (" ".join(SCORES), SCORES_HEAD, "Median over the seeds of the score on the dev set, in points."),
    "_significance": (
        "family method variant label other among what seeds difference difference_low difference_high difference_error "
        "difference_df p p_holm p_holm_tests verdict notes",
        "Method | Compared with | Family | Task | Seeds | Difference<br>points | p | p<br>Holm | "
        "Difference<br>after Holm",
        "Tested differences.",
    ),
    "_seeds": (
        "family method variant label other what seeds welch sign_flip hedges_g improvement mcnemar notes",
        "Method | Compared with | Task | Seeds | Welch<br>p | Permutation<br>p | Effect<br>Hedges' g | P(better) | "
        "McNemar<br>p by seed",
        "Tests over seeds alone, and over the examples of single runs.",
    ),
    "_ranks": (
        "family method variant label other tasks difference wilcoxon_holm wilcoxon_holm_unadjusted "
        "wilcoxon_holm_tasks_needed improvement notes",
        "Method | Compared with | Tasks | Difference<br>median, points | Wilcoxon<br>p, Holm | P(better)",
        "Tests over tasks, from one number for each.",
    ),
    "_aggregates": (
        "method variant label tasks runs interquartile_mean notes",
        "Method | Tasks | Runs | Kept<br>% of the predecessor",
        "What is kept of the predecessor.",
    ),
    "_speed": (
        "methods layers label speedup_cpu speedup_cpu_low speedup_cpu_high printed line parameters_millions "
        "embedding_millions flops notes",
        "Model | Speed-up<br>×<br>CPU | Printed<br>× | Line<br>× | Params<br>millions<br>no embeddings | "
        "Embeddings<br>millions | FLOPs<br>128 tokens",
        "Size of each shape of model, its speed-up over the predecessor, and the published one.",
    ),
    "_timings": (
        "methods label device length batch_size latency_ms latency_ms_low latency_ms_high throughput speedup "
        "speedup_low speedup_high memory_mb flops rounds notes",
        "Model | Device | Length<br>tokens | Batch<br>sequences | Latency<br>ms | Throughput<br>sequences/s | "
        "Speed-up<br>× | Peak memory<br>MiB | FLOPs<br>a sequence | Rounds",
        "How fast each shape of model is and what memory it needs, at every length and batch size.",
    ),
    "_verdicts": (
        "method variant published label task metric printed ours difference difference_low difference_high seeds "
        "verdict verdict_reason notes",
        "Method | Task | Metric | Printed<br>points | Ours<br>points | Difference<br>points | Seeds | Verdict",
        "Ours beside the numbers of worked: Table 1.",
    ),
    "_claims": (
        "claim published label verdict protocol seen notes",
        "Claim | Verdict | Protocol | Seen here",
        "Claims about directions, and where they are printed.",
    ),
    "_behaviour": (
        "method variant task seed measure value reason",
        "Method | Loyalty<br>labels | Loyalty<br>probabilities | ECE<br>calibration | Agreement<br>between seeds",
        "Behaviour on the dev sets, in points: mean over the seeds and the tasks with classes.",
    ),
    "_costs": (
        "method variant role label runs runs_asked device_seconds search_device_seconds needs_device_seconds "
        "training_flops evaluation_flops peak_memory_mb energy_kj notes",
        "Method | Runs | Training<br>device-s | Search<br>device-s | Needs<br>device-s | FLOPs<br>training | "
        "FLOPs<br>evaluation | Peak memory<br>MiB | Energy<br>kJ",
        "What the runs cost, summed over tasks and seeds; of the memory, the largest of any run.",
    ),
    "_selection": (
        "method variant label task evaluations held_out dev last flatters notes",
        "Method | Task | Evaluations<br>fewest | Dev score<br>held-out choice | Dev score<br>dev choice | "
        "Dev score<br>last | Flatters<br>points",
        "The same runs, their checkpoints chosen in several ways.",
    ),
    "_search": (
        "method variant label task trials settings score default same_half other_half flatters seconds notes",
        "Method | Task | Tried | Chosen | Score<br>chosen | Score<br>default | Nested<br>same half | "
        "Nested<br>other half | Flatters<br>points | Cost<br>device-seconds",
        "The settings that the searches chose.",
    ),
    "_trials": (
        "method variant label task trial settings score status seconds chosen notes",
        "Method | Task | Trial | Settings | Score<br>points | Status | Cost<br>device-seconds | Chosen",
        "Every setting that the searches tried; trial 0 is the method's default.",
    ),
}
TEXT = {  # the columns that are not numbers, by their header: they stand to the left
    "Method", "Model", "Claim", "Chosen", "Compared with", "Family", "Task", "McNemar", "Device", "Metric", "Verdict",
    "Protocol", "Seen here", "Settings", "Status",
}  # fmt: skip


@pytest.fixture(scope=once)
def tables(worked_suite, tmp_path_factory):
    """The folder of the tables of the first experiment, as the workflow's jobs write them."""
    folder = copy_of(worked_suite.folder, tmp_path_factory.mktemp("files"))
    with chdir(worked_suite.root):
        for write in (write_score_tables, write_verdict_tables, write_description_tables, write_search_tables):
            write(worked_suite.plan, "glue", folder)
    return folder / "tables"


def test_every_table_is_written_in_four_formats(tables):
    expected = {f"glue{ending}.{kind}" for ending in FILES for kind in ("csv", "md", "tex", "html")}
    assert {path.name for path in tables.iterdir()} == expected


@pytest.mark.parametrize("ending", FILES)
def test_columns_have_a_name_a_header_and_a_unit(tables, ending):
    names, heads, caption = FILES[ending]
    assert (tables / f"glue{ending}.csv").read_text().partition("\n")[0] == names.replace(" ", ",")
    title, _, head, rule, *_ = (tables / f"glue{ending}.md").read_text().split("\n")
    assert title == f"**All methods.** {caption}"
    assert head == f"| {heads} |"
    headers = [text.partition("<br>")[0] for text in heads.split(" | ")]
    verdict = ["Difference<br>after Holm" in text or "Chosen<br>best of" in text for text in heads.split(" | ")]
    left = [
        (header in TEXT and "Chosen<br>" not in text) or words
        for header, text, words in zip(headers, heads.split(" | "), verdict, strict=True)
    ]
    assert rule == f"| {' | '.join(':---' if one else '---:' for one in left)} |"


def rows_of(tables, ending, **values_by_column) -> list[dict]:
    rows = csv.DictReader(io.StringIO((tables / f"glue{ending}.csv").read_text()))
    return [row for row in rows if all(row[key] == value for key, value in values_by_column.items())]


def line_of(tables, ending, *starts) -> str:
    """The one line of the Markdown that begins with these cells."""
    lines = (tables / f"glue{ending}.md").read_text().split("\n")
    (line,) = [line for line in lines if line.startswith(f"| {' | '.join(starts)} |")]
    return line.removeprefix(f"| {' | '.join(starts)} | ").removesuffix(" |")


def pm(values) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def test_a_row_of_scores_in_full(tables):
    macros = {
        key: [np.mean([score_of("vanilla_kd", t, s) for t in ts]) for s in SEEDS]
        for key, ts in (("all", MACRO), ("rest", MACRO[1:]))
    }
    scores = [pm(scores_of("vanilla_kd", task)) for task in TASKS]
    expected = ["66.0", "1.95 (1.89–2.01)", "3", "2 on dev", *scores, pm(macros["all"]), pm(macros["rest"])]
    for position in (4, 8):  # CoLA and WNLI, where it is second
        mean, _, spread = expected[position].partition(" ")
        expected[position] = f"<ins>{mean}</ins> {spread}"
    assert line_of(tables, "", "Vanilla KD") == " | ".join(expected)
    (row,) = rows_of(tables, "", method="vanilla_kd", variant="")
    assert (row["role"], row["seeds"], row["chosen"]) == ("baseline", "3", "2 on dev")
    assert float(row["speedup_latency_ms"]) == pytest.approx(120 / 1.95)
    assert float(row["macro_sd"]) == pytest.approx(np.std(macros["all"], ddof=1))
    assert (row["wnli_significant"], row["cola_significant"], row["cola_n"], row["cola_failed"]) == ("", "", "3", "0")
    (row,) = rows_of(tables, "", method="theseus", variant="", role="proposed")
    assert row["notes"].startswith("mrpc: 1 of 3 runs failed: no better than the majority; without them ")
    assert "; macro: 1 of 12 runs failed; without them " in row["notes"]
    kinds = [row["role"] for row in rows_of(tables, "", method="theseus", variant="")]
    assert kinds == ["proposed", "printed", "difference"]


def test_a_row_of_the_tests_in_full(tables, worked_example):
    results = json.loads((worked_example.folder / "significance/glue.json").read_text())["differences"]
    (entry,) = [r for r in results if (r["name"], r["other"], r["what"]) == ("theseus", "finetune", "macro")]
    line = line_of(tables, "_significance", "BERT-of-Theseus", "Fine-tuning", "primary", "Macro")
    difference = f"{macro_of('theseus') - macro_of('finetune'):.1f} ({entry['low']:.1f}–{entry['high']:.1f})"
    assert line == f"3 | {difference} | &lt; 0.001 | {entry['p_holm']:.3f} | significant"
    (row,) = rows_of(tables, "_significance", family="primary", method="theseus", variant="", other="Fine-tuning")
    assert float(row["difference_error"]) == pytest.approx(entry["error"])
    assert float(row["difference_df"]) == pytest.approx(entry["df"])
    assert (row["p_holm_tests"], row["verdict"]) == ("4", "significant")
    assert float(row["p"]) == pytest.approx(entry["p"])
    (rank,) = [
        r for r in json.loads((worked_example.folder / "significance/glue.json").read_text())["ranks"]
        if (r["name"], r["other"]) == ("theseus", "finetune")
    ]  # fmt: skip
    line = line_of(tables, "_ranks", "BERT-of-Theseus", "Fine-tuning", "4")
    assert line == f"{rank['difference']:.1f} | not attainable<sup>a</sup> | {rank['improvement']:.2f}"
    line = line_of(tables, "_seeds", "BERT-of-Theseus", "Vanilla KD", "MNLI", "3")
    (entry,) = [r for r in results if (r["name"], r["other"], r["what"]) == ("theseus", "vanilla_kd", "mnli")]
    assert line == (
        f"{entry['welch']:.3f} | not attainable<sup>a</sup> | {entry['hedges_g']:.2f} | 1.00 | "
        + ", ".join(f"{p:.3f}" for p in entry["mcnemar"].values())
    )
    shares = np.sort(
        np.concatenate([100 * scores_of("theseus", t) / scores_of("predecessor", t).mean() for t in MACRO])
    )
    assert line_of(tables, "_aggregates", "BERT-of-Theseus") == f"4 | 12 | {shares[3:9].mean():.1f}"


def test_a_row_of_what_is_described_in_full(tables):
    assert line_of(tables, "_costs", "BERT-of-Theseus") == "15 | 300 | 0 | 3000 | 9.0 · 10¹⁶ | 1.5 · 10¹⁶ | 106 | 30.0"
    (row,) = rows_of(tables, "_costs", method="vanilla_kd", variant="equal")
    assert (row["role"], row["runs"], row["runs_asked"]) == ("baseline", "14", "15")
    score = scores_of("theseus@equal", "mrpc").mean()
    line = line_of(tables, "_selection", "BERT-of-Theseus (equal)", "MRPC")
    assert line == f"2 | {score:.1f} | {(100 + score) / 2:.1f} | {score:.1f} | {(100 - score) / 2:.1f}"
    assert line_of(tables, "_speed", "6 layers") == "1.95 (1.89–2.01) | 1.80 | 1.82 | 43.0 | 23.0 | 9.0 · 10⁹"
    assert line_of(tables, "_timings", "6 layers") == (
        "CPU | 128 | 32 | 62 (56–67) | 520 | 1.95 (1.89–2.01) | 60.0 | 9.0 · 10⁹ | 9"
    )
    (row,) = rows_of(tables, "_timings", label="6 layers")
    assert row["methods"].startswith("finetune; vanilla_kd; theseus; ")
    assert float(row["latency_ms_low"]) == pytest.approx(110 / 1.95)
    assert [row["layers"] for row in rows_of(tables, "_speed")] == ["12", "6"]
    rows = rows_of(tables, "_behaviour", method="theseus", variant="equal", task="mrpc", measure="label_loyalty")
    # Both err from the same place on. Predecessor and Theseus: (1, 0) and (1, 2); (1, 1) and (2, 1); (0, 0) and (2, 2).
    assert [(row["seed"], float(row["value"])) for row in rows] == [
        ("1", pytest.approx(90)), ("2", pytest.approx(95)), ("3", pytest.approx(80)),
    ]  # fmt: skip


def test_a_row_of_verdicts_in_full(tables):
    (row,) = rows_of(tables, "_verdicts", method="finetune", task="MRPC")
    assert (row["variant"], row["published"], row["metric"], row["printed"]) == ("", "worked: Table 1", "score", "98")
    assert (row["seeds"], row["verdict"], row["verdict_reason"]) == ("3", "not reproduced", "")
    assert float(row["difference_high"]) < -5
    (row,) = rows_of(tables, "_verdicts", method="theseus", task="MNLI")
    assert (row["metric"], row["verdict"], row["verdict_reason"]) == (
        "accuracy (validation_matched)", "not comparable", "the data of MNLI is a sample",
    )  # fmt: skip
    (row,) = rows_of(tables, "_claims", claim="Theseus beats vanilla KD", protocol="equal")
    assert (row["published"], row["verdict"], row["seen"]) == ("Table 1", "undecided", "2 seeds")


@pytest.fixture(scope=once)
def report(worked_suite, tmp_path_factory):
    folder = copy_of(worked_suite.folder, tmp_path_factory.mktemp("report"))
    figure_folder = folder / "figures" / "schedules"
    figure_folder.mkdir(parents=True)
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 20"><path d="M0 0"/></svg>'
    (figure_folder / "retention.svg").write_text(svg)
    entry = {"name": "retention", "title": "Retention by task", "caption": "What is kept."}
    (figure_folder / "pictures.json").write_text(json.dumps([entry]))
    with chdir(worked_suite.root):
        return suite_report(worked_suite.plan, folder)


def test_the_report_has_each_experiments_tables_and_links_to_their_files(report):
    assert [(section.name, section.title) for section in report.sections] == [
        ("glue", "All methods"),
        ("schedules", "Schedules"),
    ]
    captions = {ending: caption for ending, (_, _, caption) in FILES.items()}
    order = ["", "_median", "_verdicts", "_significance", "_seeds", "_ranks", "_aggregates", "_speed", "_timings"]
    order += ["_behaviour", "_costs", "_selection"]
    assert [table.caption for table in report.sections[0].tables] == [captions[ending] for ending in order]
    assert {table.title for table in report.sections[0].tables} == {"All methods"}
    files = [
        f"glue{ending}.{kind}" for ending in (*order[:2], *order[2:3], "_claims", *order[3:]) for kind in ("csv", "tex")
    ]
    assert report.sections[0].downloads == {name: f"../tables/{name}" for name in files}
    assert {table.title for table in report.sections[1].tables} == {"Schedules"}


def test_the_report_shows_the_figures_that_were_drawn(report):
    assert report.sections[0].figures == []
    (figure,) = report.sections[1].figures
    assert (figure.name, figure.title, figure.caption) == ("schedules-retention", "Retention by task", "What is kept.")
    assert figure.files == ("../figures/schedules/retention.svg", "../figures/schedules/retention.pdf")
    assert figure.image.name == "retention.svg"
    assert "Retention by task (schedules)" in figure.svg
    assert "What is kept." in figure.svg


def test_the_report_says_what_was_run_and_where(report):
    """Both experiments' runs, each once: 165, though the second has 18 of them again."""
    assert (report.suite, report.statistic) == ("small", "mean")
    assert report.subject == (
        "Published recipes and equal effort; google-bert/bert-base-uncased, 12 → 6 layers; GLUE, partly sampled"
    )
    assert counts(report.runs) == {"asked": 165, "complete": 162, "failed": 2, "missing": 1, "excluded": 0}
    assert scope(report) == [
        "11 methods on 5 tasks, all starting from google-bert/bert-base-uncased, 12 layers, each with the seeds 1, 2 "
        "and 3. The tables give the mean over the seeds unless they say otherwise.",
        "Of 165 runs asked for, 162 are complete, 2 failed, 1 is missing and 0 are excluded.",
    ]
    assert remarks(report)[0] == "Not official GLUE, but a part of it as the configuration declares: MNLI."
    assert [finding.heading for finding in report.findings] == [
        "What reproduces",
        "What does not",
        "How sure",
        "At what cost",
    ]
    assert report.environment == {
        "Data": f"nyu-mll/glue at {'0' * 40}",
        "Backbone revision": "0" * 40,
        "Code": "0a1b2c",
        "Processor": "A processor, 2 cores; A processor, 4 cores",
        "Device": "cpu, fp32, 1 threads a run",
        "Python": "3.11.7",
        "numpy": "2.0",
    }
    assert report.links == {"Provenance: RO-Crate": "../ro-crate-metadata.json", "Configuration": "../suite.json"}
    scores = report.runs.set_index(["method", "variant", "task", "seed"])["score"]
    assert scores["theseus", "equal+constant", "mrpc", 2] == pytest.approx(
        score_of("theseus@equal+constant", "mrpc", 2)
    )
    assert np.isnan(scores["vanilla_kd", "equal", "stsb", 3])


def test_the_reports_claims_are_those_of_all_experiments(report):
    assert report.claims.title == "What the papers claim"
    claims = [(row.identity, row.cells[0].value) for row in report.claims.rows]
    assert len(claims) == 9
    assert claims[-1] == (("The curriculum beats the constant rate", "Table 2"), "undecided")


def test_the_report_as_markdown_has_every_answer_table_and_file(report):
    text = render_markdown(report, "../")
    for finding in report.findings:
        assert markdown_text(finding.answer) in text
        assert markdown_text(finding.detail) in text
    for section in report.sections:
        assert all(markdown_text(table.caption) in text for table in section.tables)
        assert all(f"]({target})" in text for target in section.downloads.values())
    for words in (
        "162 are complete, 2 failed, 1 is missing and 0 are excluded.",
        "Not official GLUE, but a part of it as the configuration declares: MNLI.",
        "| Theseus beats fine-tuning (Table 1) | holds | published |",
        "| BERT-of-Theseus | failed | mrpc | 2 | no better than the majority |",
        "| Vanilla KD (equal) | missing | stsb | 3 | not run |",
        "Processor: A processor, 2 cores; A processor, 4 cores",
        "](../figures/schedules/retention.svg)",
        "](../ro-crate-metadata.json)",
        "](../runs)",
    ):
        assert words in text


def test_the_report_as_pdf_is_a_paper(report, tmp_path, program):
    """The claims, each experiment's means alone, how it was done, the first one's costs, and what is missing."""
    write_pdf(report, tmp_path / "report.pdf", ROOT / "report")
    pdf_info = subprocess.run([program("pdfinfo"), tmp_path / "report.pdf"], capture_output=True, text=True).stdout
    assert int(re.search(r"Pages: +(\d+)", pdf_info)[1]) <= 8
    command = [program("pdftotext"), "-layout", tmp_path / "report.pdf", "-"]
    text = " ".join(subprocess.run(command, capture_output=True, text=True).stdout.split())
    captions = {ending: text.count(caption) for ending, (_, _, caption) in FILES.items() if text.count(caption)}
    assert captions == {"": 2, "_claims": 1, "_costs": 1}
    for words in (
        "162 are complete, 2 failed, 1 is missing and 0 are excluded.",
        "Theseus beats fine-tuning (Table 1) holds published",
        "Training took 2.41 device-hours",
        "Processor: A processor, 2 cores; A processor, 4 cores",
        "Vanilla KD (equal) missing stsb 3 not run",
        "Retention by task. What is kept.",
        "only the authors can answer 17: ACL A1: limitations;",
    ):
        assert words in text


def test_the_checklist_is_filled_in_from_the_records(report):
    """164 records, 30 s of each method's seeds on a task and 300 s of a predecessor's: 8,670 s or 2.41 hours."""
    answers = {item.item.partition(":")[0]: item.answer for item in report.checklist}
    assert "2.41" in answers["C1"]
    assert "Seeds behind a method's number on a task: 2–3." in answers["C3"]
    assert "Of 165 runs 162 are complete, 2 failed and 1 have no record." in answers["C3"]
    assert "Differences were tested in 2 of 2 experiments" in answers["C3"]
    assert "Nothing was searched" in answers["C2"]
    assert answers["C4"] == "Python 3.11.7, numpy 2.0."
    assert "MNLI: train 3000" in answers["B6"]


def test_a_partial_report_links_to_no_provenance_since_there_is_none(worked_example, tmp_path):
    partial = copy_of(worked_example.folder, tmp_path).rename(tmp_path / "partial")
    assert suite_report(worked_example.plan, partial).links == {"Configuration": "../suite.json"}
