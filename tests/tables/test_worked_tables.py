"""The worked example's tables: every kind of cell against counts, formulas and the records that were left."""

import json
import math
from contextlib import chdir

import numpy as np
import pytest
from scipy import stats
from scope import once
from suites import leave_suite, make_plan, methods
from theseus_bench.evaluation.significance import write_significance
from theseus_bench.report.run_lists import gaps_table, runs_table
from theseus_bench.tables.experiment import description_tables, experiment_tables, runs_frame, verdict_tables
from theseus_bench.tables.significance import significance_tables
from theseus_bench.tables.speed import speed_tables
from worked import (
    FAILED_RUN,
    LABELS,
    MACRO,
    MISSING,
    NAMES,
    PUBLISHED,
    SEEDS,
    STUDENTS,
    TASKS,
    decisions_of,
    labels_of,
    macro_of,
    moderated_variances,
    part_of_mean,
    score_of,
    scores_of,
    splits_of,
)

WITHOUT_COLA = MACRO[1:]
WHOLE = {"macro": MACRO, "macro_without_cola": WITHOUT_COLA}


def cells_of(table, **values_by_column) -> dict:
    """A row's cells by their columns' keys: the one row with this label, and with these texts in these columns."""
    keys = [column.key for column in table.columns]
    rows = [dict(zip(keys, row.cells, strict=True)) | {"label": row.label, "row": row} for row in table.rows]
    (row,) = [r for r in rows if all((r[k] if k == "label" else r[k].value) == v for k, v in values_by_column.items())]
    return row


@pytest.fixture(scope=once)
def scores(worked_suite):
    with chdir(worked_suite.root):
        return experiment_tables(worked_suite.plan, "glue", worked_suite.folder)


def find_row(table, name):
    (row,) = [row for row in table.rows if row.label == NAMES[name] and row.kind not in ("printed", "difference")]
    return row, dict(zip([column.key for column in table.columns], row.cells, strict=True))


def test_every_cell_is_the_mean_and_the_deviation_of_its_seeds(scores):
    table = scores["mean"]
    for name in NAMES:
        cells = find_row(table, name)[1]
        for task in TASKS:
            values = scores_of(name, task)
            assert cells[task].value == pytest.approx(values.mean())
            assert cells[task].spread == pytest.approx(
                math.sqrt(((values - values.mean()) ** 2).sum() / (len(values) - 1))
            )
            assert cells[task].data["n"] == len(values)
        for key, tasks in WHOLE.items():
            assert cells[key].value == pytest.approx(macro_of(name, tasks))
            seeds = [s for s in SEEDS if all((name, task, s) != MISSING for task in tasks)]
            macros = [np.mean([score_of(name, task, seed) for task in tasks]) for seed in seeds]
            assert cells[key].spread == pytest.approx(np.std(macros, ddof=1))
            assert cells[key].data["n"] == len(macros)
    assert table.caption == "Mean ± sample standard deviation over the seeds of the score on the dev set, in points."


def test_the_medians_are_a_table_of_their_own(scores):
    table = scores["median"]
    assert table.caption == "Median over the seeds of the score on the dev set, in points."
    middle = {(name, task): np.sort(scores_of(name, task)) for name in NAMES for task in TASKS}
    for name in NAMES:
        cells = find_row(table, name)[1]
        medians = {
            task: np.mean(middle[name, task][[(len(middle[name, task]) - 1) // 2, len(middle[name, task]) // 2]])
            for task in TASKS
        }
        for task in TASKS:
            assert cells[task].value == pytest.approx(medians[task])
            assert cells[task].spread is None
        for key, tasks in WHOLE.items():
            assert cells[key].value == pytest.approx(np.mean([medians[task] for task in tasks]))
    assert find_row(table, "theseus")[1]["mrpc"].value > find_row(scores["mean"], "theseus")[1]["mrpc"].value + 5


def test_each_task_is_headed_by_its_metrics_and_its_own_training_set(scores):
    for table in scores.values():
        heads = {column.key: (column.header, *column.subheader) for column in table.columns}
        assert [heads[task] for task in TASKS] == [
            ("CoLA", "Matthews", "8.6k"), ("MRPC", "F1/Acc.", "3.7k"), ("STS-B", "Pear./Spear.", "5.7k"),
            ("MNLI", "Acc.", "3.0k"), ("WNLI", "Acc.", "635"),
        ]  # fmt: skip
        assert (heads["macro"], heads["macro_without_cola"]) == (("Macro",), ("Macro", "without CoLA"))


def test_best_and_second_are_marked_among_the_compressed_models_of_a_protocol(scores):
    """By what is shown: CoLA's 44.6 is both vanilla KD's and the constant rate's, so both are second."""
    table = scores["mean"]
    for key in [*TASKS, *WHOLE]:
        for protocol in (False, True):
            names = [name for name in STUDENTS if ("equal" in name) == protocol]
            values = {name: round(macro_of(name, WHOLE.get(key, [key])), 1) for name in names}
            best = max(values.values())
            rest = [value for value in values.values() if value < best]
            second = max(rest) if list(values.values()).count(best) == 1 else None
            for name in names:
                mark = "best" if values[name] == best else "second" if values[name] == second else ""
                assert find_row(table, name)[1][key].mark == mark, (key, name)
    assert [find_row(table, name)[1]["cola"].mark for name in STUDENTS[:4]] == ["", "second", "best", "second"]
    assert all(cell.mark == "" for name in ("majority", "predecessor") for cell in find_row(table, name)[0].cells)


def test_seeds_sizes_speeds_and_evaluations_are_those_of_the_records(scores):
    cells = {name: find_row(scores["mean"], name)[1] for name in NAMES}
    assert (cells["theseus"]["parameters_millions"].value, cells["predecessor"]["parameters_millions"].value) == (
        66,
        108,
    )
    assert cells["majority"]["parameters_millions"].notes == ("not applicable: there is no trained model",)
    assert (cells["theseus"]["speedup"].value, cells["theseus"]["speedup"].interval) == (
        1.95,
        pytest.approx((1.89, 2.01)),
    )
    assert cells["predecessor"]["speedup"].value == 1
    assert cells["theseus"]["speedup"].data["latency_ms"] == pytest.approx(120 / 1.95)
    seeds = {name: cells[name]["seeds"].value_text or f"{cells[name]['seeds'].value:g}" for name in NAMES}
    assert seeds == dict.fromkeys(NAMES, "3") | {"vanilla_kd@equal": "2–3"}
    choices = {name: cells[name]["chosen"].value for name in NAMES}
    assert choices["theseus"] == "2 on dev"
    assert choices["theseus@equal"] == "2 held out"
    assert choices["finetune@equal"] == "2 held out"
    assert choices["majority"] == ""


def test_what_failed_was_never_evaluated_or_is_missing_is_said_at_its_cell(scores):
    cells = {name: find_row(scores["mean"], name)[1] for name in NAMES}
    values = [score_of("theseus", "mrpc", seed) for seed in (1, 3)]
    assert cells["theseus"]["mrpc"].notes == (
        f"1 of 3 runs failed: no better than the majority; without them {np.mean(values):.1f}",
    )
    others = np.mean([np.mean(values), *(scores_of("theseus", task).mean() for task in ("cola", "stsb", "mnli"))])
    assert cells["theseus"]["macro"].notes == (f"1 of 12 runs failed; without them {others:.1f}",)
    mean = np.mean([score_of("finetune@equal", "cola", seed) for seed in (1, 2)])
    assert cells["finetune@equal"]["cola"].notes == (
        f"1 of 3 runs failed: diverged; without them {mean:.1f}",
        "1 never evaluated, counted at the majority's score",
    )
    assert cells["vanilla_kd@equal"]["stsb"].notes == ("2 of 3 seeds; missing: not run",)
    assert cells["vanilla_kd@equal"]["macro"].notes == ("2 of 3 seeds have every task",)
    assert cells["theseus"]["cola"].notes == ()
    assert cells["theseus"]["cola"].data["failed"] == 0
    assert cells["theseus"]["mrpc"].data["failed"] == 1


def test_daggers_follow_holm_and_not_p(worked_example, scores):
    """Theseus less fine-tuning without CoLA has p = .02, but .1 after Holm."""
    table = scores["mean"]
    rows = json.loads((worked_example.folder / "significance/glue.json").read_text())["differences"]
    marks = {}
    for name in NAMES:
        for key, cell in find_row(table, name)[1].items():
            if "significant" in cell.data:
                marks[name, key] = cell.data["significant"]
    control = [row for row in rows if row["other"] in ("finetune", "finetune@equal") and row["p_holm"] is not None]
    assert marks == {
        (row["name"], row["what"]): "better" if row["difference"] > 0 else "worse"
        for row in control
        if row["p_holm"] < 0.05
    }
    assert marks["theseus", "macro"] == marks["predecessor@equal", "macro"] == "better"
    assert marks["theseus", "wnli"] == "worse"
    assert ("theseus", "macro_without_cola") not in marks
    assert any(
        "† significantly better" in note and "than Fine-tuning and Fine-tuning (equal), like" in note
        for note in table.notes
    )


def test_what_is_printed_of_a_method_stands_below_it_with_the_difference(scores):
    """The whole scores of a dev table: of MNLI one half is printed for Theseus, which is no whole score."""
    table = scores["mean"]
    keys = [column.key for column in table.columns]
    followers = {}
    for row, reported, difference in zip(table.rows, table.rows[1:], table.rows[2:], strict=False):
        if reported.kind == "printed":
            followers[row.label] = [dict(zip(keys, one.cells, strict=True)) for one in (reported, difference)]
            assert reported.label == "Worker 2001, Table 1"
    assert list(followers) == ["Predecessor", "Fine-tuning", "BERT-of-Theseus"]
    reported, difference = followers["BERT-of-Theseus"]
    assert [reported[key].value for key in [*TASKS, "macro"]] == [70, 80, 60.5, "", "", 82.75]
    assert difference["cola"].value == pytest.approx(scores_of("theseus", "cola").mean() - 70)
    assert difference["cola"].value_text.startswith("+")
    assert followers["Fine-tuning"][1]["mrpc"].value == pytest.approx(scores_of("finetune", "mrpc").mean() - 98)
    assert followers["Fine-tuning"][1]["mrpc"].value_text.startswith("−")
    reported, difference = followers["Predecessor"]
    assert [reported[key].value for key in [*TASKS, "macro"]] == [80, 91, 90, 60, "", 80]
    assert difference["mnli"].notes == ("not comparable: the data of MNLI is a sample",)
    assert [reported["macro_without_cola"].value, difference["macro_without_cola"].value] == ["", ""]
    assert "printed" not in {row.kind for row in scores["median"].rows}


def test_the_notes_say_what_was_run(scores):
    notes = " ".join(scores["mean"].notes)
    for words in (
        "Backbone: google-bert/bert-base-uncased, 12 layers.",
        "Not official GLUE, but a part of it as the configuration declares: MNLI.",
        "7 for Predecessor (equal), Fine-tuning (equal), Vanilla KD (equal), BERT-of-Theseus (equal) and",
        "Epochs at most: 4 for Predecessor, Fine-tuning and Vanilla KD; 20 for BERT-of-Theseus and",
        "Macro: mean over CoLA, MRPC, STS-B and MNLI of the means; its deviation is that of the seeds' macros.",
        "median of 9 rounds with its 95 % interval",
        "a forward pass of 32 sequences of 128 tokens on CPU (A processor, fp32, 2 threads)",
        "like with like: over seeds and examples, Holm within each family, α = 0.05",
        "Below 3 seeds nothing is tested",
        "Bold: the highest among the compressed models of each protocol",
        "Difference: the mean above less the printed number",
    ):
        assert words in notes
    assert "Some are tested in another table" not in notes
    assert "of the medians" in " ".join(scores["median"].notes)


def test_a_task_that_trains_longer_is_named_once_where_that_is_so_of_all_methods(tmp_path):
    effort = {"set": {"epochs": 5, "batch_size": 32}, "per_task": {"rte": {"epochs": 6}}}
    settings = methods("finetune", "pkd", protocols=["equal"])
    plan = make_plan(tasks=["mrpc", "stsb", "rte"], equal=effort, search={"budget": 1}, **settings)
    leave_suite(tmp_path, plan, skip={(run.name, run.task.name, run.seed) for run in plan.runs.values()})
    write_significance(plan, "first", tmp_path)
    notes = experiment_tables(plan, "first", tmp_path)["mean"].notes
    assert "Epochs at most: 5 (6 on RTE)." in notes


def test_a_second_experiment_says_what_is_tested_in_the_first(worked_example):
    table = experiment_tables(worked_example.plan, "schedules", worked_example.folder)["mean"]
    assert table.title == "Schedules"
    cells = find_row(table, "theseus@constant")[1]
    assert cells["cola"].data["significant"] == "worse", "than Theseus, the experiment's own control"
    assert "significant" not in cells["macro"].data
    assert cells["macro"].value == pytest.approx(macro_of("theseus@constant", ["cola", "mrpc"]))
    assert "than BERT-of-Theseus: over seeds" in " ".join(table.notes)
    assert "macro_without_cola" not in [column.key for column in table.columns]


def test_the_list_of_runs_and_the_list_of_gaps(worked_example):
    frame, records = runs_frame(worked_example.plan, "glue", worked_example.folder)
    assert (len(frame), len(records)) == (11 * 5 * 3, 11 * 5 * 3 - 1)
    frame = frame.assign(
        score=[
            score_of(r.method + ("@" + r.variant) * bool(r.variant), r.task, r.seed)
            if r.status in ("complete", "failed")
            else math.nan
            for r in frame.itertuples()
        ]
    )
    table = runs_table(frame, "../")
    row = cells_of(table, label="BERT-of-Theseus", task="mrpc", seed=2)
    assert (row["status"].value, row["seconds"].value) == ("failed", 18)
    assert row["score"].value == pytest.approx(score_of(*FAILED_RUN))
    assert row["reason"].value == "no better than the majority"
    assert row["seed"].href == "../runs/theseus/mrpc/seed-2/run.json"
    missing_run = cells_of(table, label="Vanilla KD (equal)", task="stsb", seed=3)
    assert (missing_run["status"].value, missing_run["score"].value, missing_run["seed"].href) == ("missing", None, "")
    gaps = gaps_table(frame)
    assert [(row.label, *(cell.value for cell in row.cells)) for row in gaps.rows] == [
        ("BERT-of-Theseus", "failed", "mrpc", "2", "no better than the majority"),
        ("Fine-tuning (equal)", "failed", "cola", "3", "diverged"),
        ("Vanilla KD (equal)", "missing", "stsb", "3", "not run"),
    ]


def test_the_table_of_differences_shows_each_test_in_its_family(worked_example):
    table = significance_tables(worked_example.plan, "glue", worked_example.folder)["significance"]
    rows = json.loads((worked_example.folder / "significance/glue.json").read_text())["differences"]
    labels = {
        "primary": "primary",
        "macro": "secondary",
        "macro_without_cola": "secondary, without CoLA",
        "tasks": "secondary, by task",
    }
    target_labels = {"macro": "Macro", "macro_without_cola": "Macro without CoLA"} | LABELS
    assert len(table.rows) == len(rows)
    order = [row.cells[1].value for row in table.rows]
    assert order == sorted(order, key=list(labels.values()).index), "the primary ones first"
    for row in rows:
        other = NAMES[row["other"]] if row["share"] == 1 else f"50 % of {NAMES[row['other']]}"
        cells = cells_of(table, label=NAMES[row["name"]], other=other, what=target_labels[row["what"]])
        assert cells["among"].value == labels[row["family"]]
        assert cells["row"].identity[0] == row["family"]
        assert (cells["seeds"].value, cells["difference"].value) == (row["seeds"], row["difference"])
        if row["seeds"] < 3:
            assert (cells["p"].value, cells["p_holm"].value, cells["difference"].interval) == ("", "", None)
            assert cells["verdict"].value == "not tested: 2 seeds"
            continue
        assert cells["difference"].interval == (row["low"], row["high"])
        assert cells["difference"].data == {key: row[key] for key in ("low", "high", "error", "df")}
        assert (cells["p"].value, cells["p_holm"].value) == (row["p"], row["p_holm"])
        assert cells["p_holm"].data == {"tests": row["tests"]}
        for key in ("p", "p_holm"):
            assert cells[key].value_text == ("< 0.001" if row[key] < 0.001 else "")
        assert cells["verdict"].value == ("significant" if row["p_holm"] < 0.05 else "not significant")
        assert cells["row"].kind == cells["verdict"].value.replace(" ", "-")
    notes = " ".join(table.notes)
    assert "Intervals hold together with 95 %" in notes
    assert "10,000 resamples" in notes
    assert "Below 3 seeds nothing is tested" in notes


def test_the_table_of_seeds_shows_welch_effect_and_mcnemar(worked_example):
    table = significance_tables(worked_example.plan, "glue", worked_example.folder)["seeds"]
    cells = cells_of(table, label="BERT-of-Theseus", other="Fine-tuning", what="MRPC")
    theseus, finetune = scores_of("theseus", "mrpc"), scores_of("finetune", "mrpc")
    variances = [theseus.var(ddof=1) / 3, finetune.var(ddof=1) / 3]
    df = sum(variances) ** 2 / sum(one**2 / 2 for one in variances)
    assert cells["welch"].value == pytest.approx(
        2 * stats.t.sf((theseus.mean() - finetune.mean()) / sum(variances) ** 0.5, df)
    )
    assert cells["hedges_g"].value == pytest.approx(
        (theseus.mean() - finetune.mean()) / (1.5 * sum(variances)) ** 0.5 * 0.8
    )
    assert cells["improvement"].value == pytest.approx(6 / 9), "seeds 1 and 3 beat all three, the failed one none"
    assert cells["seeds"].value == 3
    # Of seed 1 Theseus misses one and takes one, fine-tuning three and three from the same places on: 4 gained, 0 lost.
    assert cells["mcnemar"].value.split(", ")[0] == "0.125"
    assert (cells["sign_flip"].value, cells["sign_flip"].notes) == (
        "not attainable", ("the smallest p of 3 seeds that differ is 0.25; 6 could reach 0.05",),
    )  # fmt: skip
    constant = cells_of(table, label="BERT-of-Theseus", other="Fine-tuning", what="WNLI")
    assert (constant["welch"].value, constant["hedges_g"].value) == (None, None)
    assert constant["welch"].notes == constant["hedges_g"].notes == ("both need two seeds, and some spread",)
    assert "Macro" not in {row.cells[1].value for row in table.rows}


def test_the_table_of_ranks_and_that_of_what_is_kept(worked_example):
    tables = significance_tables(worked_example.plan, "glue", worked_example.folder)
    results = json.loads((worked_example.folder / "significance/glue.json").read_text())
    cells = cells_of(tables["ranks"], label="BERT-of-Theseus", other="Fine-tuning")
    differences = np.sort([scores_of("theseus", task).mean() - scores_of("finetune", task).mean() for task in MACRO])
    assert cells["difference"].value == pytest.approx(differences[1:3].mean())
    assert cells["wilcoxon_holm"].value == "not attainable"
    assert cells["wilcoxon_holm"].data == {"unadjusted": pytest.approx(0.125), "tasks_needed": 8}
    assert cells["wilcoxon_holm"].notes == ("4 tasks that differ cannot reach α = 0.05 in this family; 8 could",)
    assert cells["row"].identity == ("primary", "theseus", "")
    few = cells_of(tables["ranks"], label="Vanilla KD (equal)", other="Fine-tuning (equal)")
    assert (few["wilcoxon_holm"].value, few["wilcoxon_holm"].notes) == (None, ("not tested: 2 seeds",))
    assert few["row"].identity == ("macro", "vanilla_kd", "equal")
    p = results["friedman"][0]["p"]
    notes = " ".join(tables["ranks"].notes)
    assert f"Friedman, published: p {p:.3f} that the 4 compressed models rank alike on 4 tasks" in notes
    assert "Friedman, equal: not tested: 2 seeds" in notes
    aggregate = cells_of(tables["aggregates"], label="Fine-tuning")
    values = [100 * scores_of("finetune", t) / scores_of("predecessor", t).mean() for t in MACRO]
    assert aggregate["interquartile_mean"].value == pytest.approx(np.sort(np.concatenate(values))[3:9].mean())
    assert (aggregate["tasks"].value, aggregate["runs"].value) == (4, 12)
    assert cells_of(tables["aggregates"], label="Vanilla KD (equal)")["runs"].value == 11


def test_the_table_of_behaviour_is_of_the_tasks_with_classes(worked_example):
    """Loyalty in labels: how often a run decides as the predecessor of its protocol and seed, mean over splits."""
    table = description_tables(worked_example.plan, "glue", worked_example.folder)["behaviour"]
    tasks = ["cola", "mrpc", "mnli", "wnli"]

    def alike(name, other, task, seed):
        pairs = [[decisions_of(one, task, seed, split) for one in (name, other)] for split in splits_of(task)]
        return np.mean([np.mean(a == b) for a, b in pairs])

    cells = cells_of(table, label="BERT-of-Theseus, constant (equal)")
    loyal = [
        np.mean([alike("theseus@equal+constant", "predecessor@equal", task, seed) for seed in SEEDS]) for task in tasks
    ]
    assert cells["label_loyalty"].value == pytest.approx(100 * np.mean(loyal))

    # Every decision has probability e³ / (e³ + 1), or e³ / (e³ + 2) of MNLI's three: ECE is |that − accuracy|.
    def confident(task):
        return math.exp(3) / (math.exp(3) + (2 if task == "mnli" else 1))

    def error(name, task, seed):
        return np.mean(
            [
                abs(np.mean(decisions_of(name, task, seed, s) == labels_of(task, s)) - confident(task))
                for s in splits_of(task)
            ]
        )

    assert cells["ece"].value == pytest.approx(
        100 * np.mean([np.mean([error("theseus@equal+constant", task, seed) for seed in SEEDS]) for task in tasks]),
        abs=1e-4,
    )
    agreement = []
    for task in tasks:
        pairs = [(1, 2), (1, 3), (2, 3)]
        split_values = [
            np.mean(
                [
                    np.mean(
                        decisions_of("theseus@equal+constant", task, a, s)
                        == decisions_of("theseus@equal+constant", task, b, s)
                    )
                    for a, b in pairs
                ]
            )
            for s in splits_of(task)
        ]
        agreement.append(np.mean(split_values))
    assert cells["seed_agreement"].value == pytest.approx(100 * np.mean(agreement))
    teacher = cells_of(table, label="Predecessor")
    assert teacher["label_loyalty"].notes == ("it is the predecessor",)
    failed_cells = cells_of(table, label="Fine-tuning (equal)")
    assert failed_cells["label_loyalty"].notes == ("11 of 12 runs: failed: diverged",)
    loyal = [
        np.mean([alike("finetune@equal", "predecessor@equal", t, s) for s in SEEDS if (t, s) != ("cola", 3)])
        for t in tasks
    ]
    assert failed_cells["label_loyalty"].value == pytest.approx(100 * np.mean(loyal))
    assert table.notes[0] == "Tasks: CoLA, MRPC, MNLI and WNLI."


def test_the_table_of_costs_adds_up_the_records(worked_example):
    """A run of seed s took 10 s seconds, a predecessor's ten times as much: five tasks of 60 s and of 600 s."""
    table = description_tables(worked_example.plan, "glue", worked_example.folder)["costs"]
    expected = {
        "majority": (300, 0),
        "predecessor": (3000, 0),
        "finetune": (300, 0),
        "vanilla_kd": (300, 3000),
        "theseus": (300, 3000),
    }
    for name, (own, needs) in expected.items():
        cells = cells_of(table, label=NAMES[name])
        assert (cells["device_seconds"].value, cells["search_device_seconds"].value) == (own, 0)
        assert cells["needs_device_seconds"].value == needs
        assert (cells["runs"].value, cells["runs"].data) == (15, {"asked": 15})
        assert cells["training_flops"].value == pytest.approx(5 * 3e15 * (1 + 2 + 3))
        assert cells["evaluation_flops"].value == pytest.approx(15e15)
        assert cells["energy_kj"].value == pytest.approx(30)
        assert cells["peak_memory_mb"].value == (112 if name == "predecessor" else 106)
    few = cells_of(table, label="Vanilla KD (equal)")
    assert (few["runs"].value, few["device_seconds"].value) == (14, 270)
    assert few["device_seconds"].notes == ("of 14 of 15 runs",)


def test_the_table_of_choices_says_what_dev_would_have_added(worked_example):
    """Under equal effort dev was half as far from 100 at the first evaluation as at the one that was chosen."""
    table = description_tables(worked_example.plan, "glue", worked_example.folder)["selection"]
    equal = cells_of(table, label="BERT-of-Theseus (equal)", task="MRPC")
    score = scores_of("theseus@equal", "mrpc").mean()
    assert equal["held_out"].value == equal["last"].value == pytest.approx(score)
    assert equal["dev"].value == pytest.approx((100 + score) / 2)
    assert equal["flatters"].value == pytest.approx((100 - score) / 2)
    published = cells_of(table, label="BERT-of-Theseus", task="MRPC")
    score = scores_of("theseus", "mrpc").mean()
    assert (published["held_out"].value, published["held_out"].notes) == (
        None,
        ("nothing was held out of its training set",),
    )
    assert published["dev"].value == published["last"].value == pytest.approx(score)
    assert published["flatters"].value == pytest.approx(0)
    assert published["evaluations"].value == 2
    cells = cells_of(table, label="Fine-tuning (equal)", task="CoLA")
    assert cells["held_out"].value == pytest.approx(
        np.mean([score_of("finetune@equal", "cola", seed) for seed in (1, 2)])
    )
    assert "Majority class" not in {row.label for row in table.rows}


def test_the_tables_of_speed_stand_beside_the_paper(worked_example):
    """Half of the layers: printed 1.8; by the line (.1 + .075 · 12) / (.1 + .075 · 6) = 1 / .55."""
    tables = speed_tables(worked_example.plan, "glue", worked_example.folder)
    six = cells_of(tables["speed"], label="6 layers")
    assert (six["speedup_cpu"].value, six["speedup_cpu"].interval) == (1.95, pytest.approx((1.89, 2.01)))
    assert (six["printed"].value, six["line"].value) == (1.8, pytest.approx(1 / 0.55))
    assert (six["parameters_millions"].value, six["embedding_millions"].value) == (43, 23)
    assert six["flops"].value == 9e9
    timing = cells_of(tables["timings"], label="6 layers")
    assert timing["latency_ms"].value == pytest.approx(120 / 1.95)
    assert timing["latency_ms"].interval == pytest.approx((110 / 1.95, 130 / 1.95))
    assert timing["throughput"].value == pytest.approx(32 * 1.95 / 0.12)
    assert [timing[key].value for key in ("length", "batch_size", "memory_mb", "rounds")] == [128, 32, 60, 9]


def test_verdicts_are_by_the_interval_of_ours_less_the_printed(worked_example):
    """Its variance: the moderated one of our seeds, over 3, and π/2 times it over the four runs of the median."""
    table = verdict_tables(worked_example.plan, "glue", worked_example.folder)["verdicts"]
    reported_scores = {
        "predecessor": {"cola": 80.0, "mrpc": 91.0, "stsb": 90.0},
        "finetune": {"cola": 30.0, "mrpc": 98.0, "stsb": 60.0},
        "theseus": {"cola": 70.0, "mrpc": 80.0, "stsb": 60.5},
    }
    verdict_keys = set()
    for name, numbers in reported_scores.items():
        for task, number in numbers.items():
            part, df = part_of_mean(moderated_variances(PUBLISHED, task)[name], task, 1 / 3 + math.pi / 2 / 4)
            reach = stats.t.ppf(0.975, df) * math.sqrt(part)
            difference = scores_of(name, task).mean() - number
            tolerance = 25 if task == "cola" else 5
            low, high = difference - reach, difference + reach
            verdict = "undecided"
            if -tolerance <= low and high <= tolerance:
                verdict = "reproduced"
            if low > tolerance or high < -tolerance:
                verdict = "not reproduced"
            cells = cells_of(table, label=NAMES[name], task=LABELS[task])
            assert (cells["printed"].value, cells["ours"].value) == (
                number,
                pytest.approx(scores_of(name, task).mean()),
            )
            assert cells["difference"].value == pytest.approx(difference)
            assert cells["difference"].interval == pytest.approx((low, high), rel=0.01)
            assert (cells["verdict"].value, cells["seeds"].value) == (verdict, 3)
            verdict_keys.add(verdict)
    assert verdict_keys == {"reproduced", "undecided", "not reproduced"}
    assert len(table.rows) == 3 * 3 + 2 + 2, "and MNLI and the macro of two of them"


def test_a_macro_and_a_half_that_are_printed_are_compared_with_the_same_of_ours(worked_example):
    table = verdict_tables(worked_example.plan, "glue", worked_example.folder)["verdicts"]
    macro = cells_of(table, label="BERT-of-Theseus", task="macro")
    assert macro["ours"].value == pytest.approx(macro_of("theseus"))
    assert macro["difference"].value == pytest.approx(macro_of("theseus") - 82.75)
    factor = (1 / 3 + math.pi / 2 / 4) / 16
    parts = [part_of_mean(moderated_variances(PUBLISHED, task)["theseus"], task, factor) for task in MACRO]
    whole = sum(part for part, _ in parts)
    reach = stats.t.ppf(0.975, whole**2 / sum(part**2 / df for part, df in parts)) * math.sqrt(whole)
    assert macro["difference"].interval == pytest.approx(
        (macro_of("theseus") - 82.75 - reach, macro_of("theseus") - 82.75 + reach), rel=0.02
    )
    assert (macro["verdict"].value, macro["verdict"].data["reason"]) == (
        "not comparable",
        "the data of MNLI is a sample",
    )
    mnli = cells_of(table, label="Predecessor", task="MNLI")
    assert mnli["verdict"].value == "not comparable"
    assert mnli["ours"].value == pytest.approx(scores_of("predecessor", "mnli").mean())
    half = cells_of(table, label="BERT-of-Theseus", task="MNLI")
    assert half["metric"].value == "accuracy (validation_matched)"
    assert {cells_of(table, label="Predecessor", task=LABELS[task])["metric"].value for task in MACRO} == {"score"}
    assert half["ours"].value == pytest.approx(100 * (8 + 9 + 8) / 30), "2, 1 and 2 of ten wrong"


def test_claims_are_judged_by_the_interval_of_their_protocol(worked_example):
    table = verdict_tables(worked_example.plan, "glue", worked_example.folder)["claims"]
    rows = json.loads((worked_example.folder / "significance/glue.json").read_text())["differences"]

    def interval(name, other, share=1.0):
        (row,) = [r for r in rows if (r["name"], r["other"], r["what"], r["share"]) == (name, other, "macro", share)]
        return row["difference"], row["low"], row["high"]

    verdicts = {(row.identity[0], row.cells[1].value): (row.cells[0].value, row.cells[2].value) for row in table.rows}
    assert {key: verdict for key, (verdict, _) in verdicts.items()} == {
        ("Theseus beats fine-tuning", "published"): "holds",
        ("Theseus beats fine-tuning", "equal"): "undecided",  # p of .018, in a family of four
        ("Theseus beats vanilla KD", "published"): "holds",
        ("Theseus beats vanilla KD", "equal"): "undecided",  # two seeds
        ("Fine-tuning beats the predecessor", "published"): "does not hold",
        ("Fine-tuning beats the predecessor", "equal"): "does not hold",
        ("Theseus retains half at 1.9 times the speed", "published"): "undecided",  # 1.89 to 2.01 times
        ("Theseus retains half at 1.9 times the speed", "equal"): "undecided",
    }
    value, low, high = interval("theseus@equal", "finetune@equal")
    assert verdicts["Theseus beats fine-tuning", "equal"][1] == (
        f"BERT-of-Theseus (equal) less Fine-tuning (equal): +{value:.1f} (−{-low:.1f} to +{high:.1f}) points"
    )
    value, low, high = interval("predecessor", "finetune")
    assert verdicts["Fine-tuning beats the predecessor", "published"][1] == (
        f"Fine-tuning less Predecessor: −{value:.1f} (−{high:.1f} to −{low:.1f}) points"
    )
    value, low, high = interval("theseus", "predecessor", 0.5)
    assert verdicts["Theseus retains half at 1.9 times the speed", "published"][1] == (
        f"BERT-of-Theseus less 50 % of Predecessor: +{value:.1f} (+{low:.1f} to +{high:.1f}) points; "
        "1.95 (1.89 to 2.01) times as fast"
    )
    assert verdicts["Theseus beats vanilla KD", "equal"][1] == "2 seeds"
    assert {row.identity[1] for row in table.rows} == {"Table 1"}
