"""From a number in a table to the runs that it is made of."""

import hashlib
from dataclasses import replace

import pytest
from suites import deciding, leave_run, make_plan
from theseus_bench.commands import run as run_command
from theseus_bench.errors import UserError
from theseus_bench.evaluation.trace import cell_runs, trace_cell
from theseus_bench.files import write_json
from theseus_bench.tables.experiment import write_score_tables
from worked import MACRO, SEEDS, copy_of, macro_of, score_of, scores_of

METHODS = {"first": {"title": "One", "methods": ["predecessor", "theseus", "theseus@constant"]}}
PLAN = make_plan(tasks=["cola", "rte"], seeds=[1, 2], compact={}, experiments=METHODS)
READ = {"data/rte": "1" * 64, "runs/predecessor/rte/seed-1/model/model.safetensors": "2" * 64}


@pytest.fixture
def suite(tmp_path):
    """A suite of Theseus at a constant rate on RTE: a run with a record, one that crashed."""
    predictions = {"validation": (range(2), [0, 1], deciding([0, 1], 2))}
    leave_run(PLAN, PLAN.run("theseus@constant", "rte", 1), tmp_path, predictions, inputs=READ, dev_score=0.71234)
    write_json(tmp_path / "runs/theseus@constant/rte/seed-2/error.json", {"reason": "MemoryError: out of memory"})
    write_json(tmp_path / "suite.json", PLAN.suite.model_dump())
    return tmp_path


def by_run(lines: list[str]) -> dict[str, list[str]]:
    """What is said of each run, by its path."""
    blocks = [block.split("\n") for block in "\n".join(lines).split("\n\n")[1:]]
    return {block[0]: block[1:] for block in blocks}


def test_each_run_is_told_with_its_settings_checksums_and_command(suite):
    lines = by_run(trace_cell(PLAN, "first", "theseus@constant", "rte", suite))
    predictions = (suite / "runs/theseus@constant/rte/seed-1/predictions.parquet").read_bytes()
    assert lines == {
        "runs/theseus@constant/rte/seed-1": [
            "  seed        1",
            "  status      complete",
            "  score       71.2",
            '  settings    layers 6, schedule "constant", base_rate 0.5',
            f"  predictions {hashlib.sha256(predictions).hexdigest()}",
            "  read data/rte",
            f"              {'1' * 64}",
            "  read runs/predecessor/rte/seed-1/model/model.safetensors",
            f"              {'2' * 64}",
            f"  made by theseus-bench train {suite} theseus@constant rte 1",
        ],
        "runs/theseus@constant/rte/seed-2": [
            "  seed        2",
            "  status      missing: crashed: MemoryError: out of memory",
            f"  made by theseus-bench train {suite} theseus@constant rte 2",
        ],
    }


def test_a_searched_run_names_the_trial_that_was_chosen(tmp_path):
    plan = make_plan(tasks=["rte"], seeds=[1], compact={}, search={"budget": 2, "seeds": [101]}, experiments=METHODS)
    leave_run(plan, plan.run("theseus", "rte", 1), tmp_path, {}, trial=1)
    lines = by_run(trace_cell(plan, "first", "theseus", "rte", tmp_path))["runs/theseus/rte/seed-1"]
    assert "  search      trial 1 was chosen: search/theseus/rte.json" in lines


def test_the_number_is_that_of_the_table_and_the_mean_of_its_runs_scores(worked_example, tmp_path):
    folder = copy_of(worked_example.folder, tmp_path)
    write_score_tables(worked_example.plan, "glue", folder)
    head, *lines = trace_cell(worked_example.plan, "glue", "theseus", "cola", folder)
    scores = scores_of("theseus", "cola")
    assert head == f"glue: BERT-of-Theseus, cola: {scores.mean():.1f} ± {scores.std(ddof=1):.1f}"
    numbers = [line.split()[1] for line in lines if line.startswith("  score ")]
    assert numbers == [f"{score_of('theseus', 'cola', seed):.1f}" for seed in SEEDS]


def test_a_macro_is_made_of_the_runs_on_its_tasks(worked_example, tmp_path):
    folder = copy_of(worked_example.folder, tmp_path)
    write_score_tables(worked_example.plan, "glue", folder)
    head, scope, *lines = trace_cell(worked_example.plan, "glue", "theseus@equal", "macro", folder)
    assert head.startswith(f"glue: BERT-of-Theseus (equal), macro: {macro_of('theseus@equal'):.1f} ± ")
    assert scope.startswith("12 runs on CoLA, MRPC, STS-B and MNLI")
    runs = [f"runs/theseus@equal/{task}/seed-{seed}" for task in MACRO for seed in SEEDS]
    assert sorted(by_run(["", *lines])) == sorted(runs)
    without_cola = cell_runs(worked_example.plan, "glue", "theseus@equal", "macro_without_cola")
    assert {run.task.name for run in without_cola} == set(MACRO) - {"cola"}


@pytest.mark.parametrize(
    ("row", "column", "seed", "texts"),
    [
        ("theseus", "mrpc", 2, ["status      failed: no better than the majority", "score       "]),
        ("finetune@equal", "cola", 3, ["status      failed: diverged", "score       none, so it counts as the major"]),
        ("vanilla_kd@equal", "stsb", 3, ["status      missing: not run"]),
    ],
)
def test_a_run_that_failed_or_is_missing_says_so(worked_example, row, column, seed, texts):
    lines = by_run(trace_cell(worked_example.plan, "glue", row, column, worked_example.folder))[
        f"runs/{row}/{column}/seed-{seed}"
    ]
    assert all(any(line.startswith(f"  {text}") for line in lines) for text in texts)


def test_lines_fit_a_terminal_but_for_names_and_commands(worked_example):
    lines = trace_cell(worked_example.plan, "glue", "theseus@equal", "macro", worked_example.folder)
    assert [line for line in lines if len(line) > 80 and not line.startswith(("  read ", "  made by "))] == []


@pytest.mark.parametrize(
    ("experiment", "row", "column", "message"),
    [
        ("frist", "theseus", "rte", "the suite has no experiment 'frist' (did you mean 'first'?)"),
        ("first", "thesues", "rte", "the table of first has no row 'thesues' (did you mean 'theseus'?)"),
        ("first", "theseus", "rt", "the table of first has no column 'rt' (did you mean 'rte'?)"),
    ],
)
def test_a_wrong_name_ends_in_one_line_with_a_suggestion(suite, capsys, experiment, row, column, message):
    assert run_command(["trace", str(suite), experiment, row, column]) == 1
    assert capsys.readouterr() == ("", f"theseus-bench: {message}\n")


def test_a_task_that_a_method_leaves_out_has_no_runs():
    spec = PLAN.specs["theseus"].model_copy(update={"exclude": ["rte"]})
    plan = replace(PLAN, specs=PLAN.specs | {"theseus": spec})
    with pytest.raises(UserError, match=r"theseus has no run on rte: methods/theseus/method\.yaml excludes it"):
        cell_runs(plan, "first", "theseus", "rte")
    assert [run.seed for run in cell_runs(plan, "first", "theseus", "cola")] == [1, 2]


def test_the_command_prints_it(suite, capsys):
    assert run_command(["trace", str(suite), "first", "theseus@constant", "rte"]) == 0
    output = capsys.readouterr().out
    assert output == "\n".join(trace_cell(PLAN, "first", "theseus@constant", "rte", suite)) + "\n"
    assert output.startswith("first: BERT-of-Theseus, constant, rte: no table yet; make it with:")


def test_the_number_of_a_suite_that_is_not_complete_is_that_of_its_partial_table(suite, capsys):
    (suite / "partial/tables").mkdir(parents=True)
    rows = "method,variant,label,rte,rte_sd\ntheseus,constant,Theseus,66.4,1.26\n"
    (suite / "partial/tables/first.csv").write_text(rows)
    run_command(["trace", str(suite), "first", "theseus@constant", "rte"])
    assert capsys.readouterr().out.startswith("first: BERT-of-Theseus, constant, rte: 66.4 ± 1.3")
