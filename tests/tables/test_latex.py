"""The tables as LaTeX really compile, on a landscape page and on a plain one, whatever is in their texts."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from suites import make_plan
from theseus_bench.evaluation.claims import judge_claims
from theseus_bench.evaluation.pairs import list_comparisons
from theseus_bench.evaluation.scores import COLUMNS
from theseus_bench.evaluation.significance_file import SignificanceResults
from theseus_bench.evaluation.verdicts import judge_numbers
from theseus_bench.files import write_json
from theseus_bench.report.run_lists import gaps_table, runs_table
from theseus_bench.tables.latex import latex_text, to_latex
from theseus_bench.tables.model import Cell, Column, Row, Table
from theseus_bench.tables.scores import ReportedScores, scores_table
from theseus_bench.tables.search import search_table, trials_table
from theseus_bench.tables.verdicts import claims_table, verdicts_table

from results import choice_of, results_of, timing_of

HOSTILE = (
    r"""& % $ # _ { } ~ ^ \ < > | " ' ` − × ± α ≤ → † ‡ é – — … [x] *y* --flag $HOME {x} \input{y} 中 ß ð “z” %end"""
)
LONG_WORD = "/data/a_folder_with_a_long_name/another_one/" + "0123456789abcdef" * 4 + ".parquet"
EIGHT = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"]
METHODS = ["majority", "predecessor", "finetune", "vanilla_kd", "pkd", "distilbert", "pd_bert", "layerdrop", "tinybert"]
EXPERIMENT = {
    "title": "GLUE dev scores (paper, Table 2)",
    "methods": [*METHODS, "minilm", "theseus", "theseus@constant+base_rate=0.7+full_rate_at=1000"],
    "protocols": ["published", "equal"],
    "compare_with": ["theseus: Table 2", "distilbert: Table 1", "pkd: result files"],
}
PAGES = {
    "landscape": r"\documentclass[a4paper,landscape]{article}\usepackage[margin=2cm]{geometry}",
    "portrait": r"\documentclass[a4paper]{article}\usepackage[margin=2cm]{geometry}",
}


@pytest.fixture(scope="module")
def plan():
    return search_plan(EXPERIMENT["methods"], EIGHT)


def search_plan(methods, tasks):
    """A suite whose settings are searched."""
    equal = {"set": {"epochs": 7}}
    search = {"budget": 4, "seeds": [101, 102], "space": {"learning_rate": [1e-5, 2e-5, 3e-5, 5e-5]}}
    experiments = {"first": EXPERIMENT | {"methods": methods, "tasks": tasks}}
    return make_plan(tasks=EIGHT, seeds=[1, 2, 3, 4, 5], experiments=experiments, equal=equal, search=search)


@pytest.fixture(scope="module")
def frames(plan):
    """Scores and runs of the experiment: some failed and some missing, with reasons that are hard to print."""
    random = np.random.default_rng(0)
    scores, runs = [], []
    for name in plan.experiment_names("first"):
        for task in EIGHT:
            for seed in plan.suite.seeds:
                run = plan.run(name, task, seed)
                status, reason = {0: ("failed", HOSTILE), 1: ("missing", f"crashed: {LONG_WORD}: no such file")}.get(
                    random.integers(60), ("complete", "")
                )
                identity = {"method": run.spec.name, "variant": run.variant, "task": task, "seed": seed}
                properties = {"path": run.path, "seconds": 1234.5, "parameters": 67e6}
                properties |= {"label": run.label, "role": run.spec.role, "chosen_on": "dev", "evaluations": 4}
                runs.append(identity | {"status": status, "reason": reason} | properties)
                value = 80 + random.normal()
                scores.append(("small", "first", *identity.values(), "dev", "score", value))
    return pd.DataFrame(scores, columns=COLUMNS), pd.DataFrame(runs)


@pytest.fixture(scope="module")
def verdicts(plan, frames):
    return judge_numbers(plan, "first", frames[0])


@pytest.fixture(scope="module")
def score_tables(plan, frames, verdicts):
    """The score tables with all that can stand in them."""
    scores, runs = frames
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for verdict in verdicts:
        rows.setdefault(verdict.name, {}).setdefault(verdict.table, {})[verdict.target] = verdict.reported_score
    reported_scores = {
        name: [
            ReportedScores(label, points, "the best of its runs" if "files" in label else "")
            for label, points in by_table.items()
        ]
        for name, by_table in rows.items()
    }
    daggers = {(name, key): "better" for name in reported_scores for key in (*EIGHT[::2], "macro")}
    daggers |= {(name, "rte"): "worse" for name in reported_scores}
    remark = "† significantly better, ‡ significantly worse than Fine-tuning (Holm over the family, α = 0.05)."
    names = plan.experiment_names("first")
    speed = {name: timing_of(speedup=1.94, low=1.9, high=1.98) for name in names}
    tasks = {name: plan.tasks[name] for name in EIGHT}
    return [
        scores_table(
            scores, runs, speed, tasks, EXPERIMENT["title"], statistic, ["Backbone: a small one."],
            daggers=daggers, significance_remark=remark, reported_scores=reported_scores,
        )
        for statistic in ("median", "mean")
    ]  # fmt: skip


@pytest.fixture(scope="module")
def all_tables(plan, frames, verdicts, score_tables, tmp_path_factory):
    """Every kind of table that there is, each large, and those that are short and float."""
    _, runs = frames
    folder = tmp_path_factory.mktemp("searched")
    for run in plan.experiment_runs("first"):
        if run.trials:
            write_json(folder / run.search_file, choice_of(run))
    few = search_plan(["theseus"], ["cola", "rte"])
    small = [scores_table(*part(frames, "finetune", "theseus"), {}, {t: plan.tasks[t] for t in EIGHT}, "Few", "mean")]
    hostile = Row(HOSTILE, (Cell(HOSTILE, notes=(HOSTILE,)), Cell(1.0), Cell(LONG_WORD)), kind="printed")
    columns = (Column("x", HOSTILE, (HOSTILE,), text=True), Column("y", "%y"), Column("z", "Z", text=True))
    return [
        *score_tables,
        *small,
        verdicts_table(plan, verdicts, EXPERIMENT["title"]),
        claims_table(judge_claims(plan, "first", differences(plan), {}), EXPERIMENT["title"]),
        search_table(plan, "first", folder),
        trials_table(few, "first", folder),
        gaps_table(runs),
        runs_table(runs[runs["task"] == "rte"]),
        Table(HOSTILE, HOSTILE, columns, (hostile, hostile), (HOSTILE,), stub=HOSTILE),
    ]


def differences(plan) -> SignificanceResults:
    """What the tests of all that the experiment compares might leave."""
    ends = {"difference": 1.0, "low": 0.1, "high": 1.9, "seeds": 5}
    return results_of(*(asdict(pair) | ends for pair in list_comparisons(plan, "first")))


def part(frames, *methods):
    return [frame[frame["method"].isin(methods) & (frame["variant"] == "")] for frame in frames]


def compile_tables(tables, page: str, folder, pdflatex: str) -> str:
    """The log of pdflatex over a document of the tables; fails if they do not compile."""
    texts = [to_latex(table) for table in tables]
    packages = {name for text in texts for name in re.match("% needs (.*)\n", text)[1].split(", ")}
    lines = [PAGES[page], *(rf"\usepackage{{{name}}}" for name in sorted(packages)), r"\begin{document}"]
    for i, text in enumerate(texts):
        (folder / f"table{i}.tex").write_text(text, encoding="utf-8")
        lines += [rf"\input{{table{i}.tex}}", r"\clearpage"]
    (folder / "all.tex").write_text("\n".join([*lines, r"\end{document}"]), encoding="utf-8")
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    long_lines = os.environ | {"max_print_line": "10000"}  # the log's lines
    for _ in range(2):  # a longtable knows its columns' widths after the first run
        process = subprocess.run(command, cwd=folder, env=long_lines, capture_output=True, text=True, errors="replace")
        assert process.returncode == 0, process.stdout[-3000:]
    return (folder / "all.log").read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize("page", PAGES)
def test_all_tables_compile_in_one_document_and_stay_on_the_page(all_tables, page, tmp_path, program):
    log = compile_tables(all_tables, page, tmp_path, program("pdflatex"))
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
    assert "Missing character" not in log
    assert "Float too large" not in log
    assert max([float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)], default=0) < 20


def test_a_text_that_would_be_code_is_text():
    assert latex_text("50% & $1 #2 a_b {c}") == r"50\% \& \$1 \#2 a\_b \{c\}"
    assert (
        latex_text("<y> ~ ^ \\x")
        == r"\textless{}y\textgreater{} \textasciitilde{} \textasciicircum{} \textbackslash{}x"
    )
    assert latex_text("a – é −1 ×") == r"a -- é $-$1 $\times$"
    assert latex_text("a\n\n b\tc") == "a b c", "an empty line would end the paragraph"


def test_two_hyphens_are_not_a_dash():
    assert latex_text("--flag") == "-{}-flag"
    assert latex_text("a---b") == "a-{}-{}-b"


def test_what_pdflatex_does_not_know_is_named():
    assert latex_text("中 \x1b") == "U+4E2D U+001B"


def test_a_long_word_may_break_and_a_short_one_not():
    assert latex_text("fine-tuning/it") == "fine-tuning/it"
    assert latex_text("/data/" + "0123456789abcdef" * 2).count(r"\allowbreak{}") == 4
