"""AX by category, on made-up sentences: R3 against Gorodkin's formula, and what a wrong file is told."""

import numpy as np
import pandas as pd
import pytest
from suites import deciding, leave_run, make_plan
from theseus_bench.data.diagnostic import read_diagnostic
from theseus_bench.errors import UserError
from theseus_bench.tables.diagnostic import diagnostic_table

EXAMPLES = 30
LABELS = ["entailment", "neutral", "contradiction"]


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def rows(random):
    """A made-up table in the form of GLUE's."""
    return [
        {
            "Lexical Semantics": "Factivity;Quantifiers" if i % 2 else "",
            "Predicate-Argument Structure": "Datives" if i % 3 == 0 else "",
            "Logic": "Negation",
            "Knowledge": "World knowledge" if i < 5 else "",
            "Domain": "Artificial",
            "Premise": f'The "cat number {i} sat.',  # a lone quote is text
            "Hypothesis": f"A cat sat {i} times.",
            "Label": LABELS[random.integers(3)],
        }
        for i in range(EXAMPLES)
    ]


def write(rows, file):
    names = list(rows[0])
    lines = ["\t".join(names), *("\t".join(row[name] for name in names) for row in rows)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def suite_of(file, folder=None, **changes):
    data = {"source": "hub", "revision": "0" * 40, "diagnostic": None if file is None else str(file)}
    data |= {} if folder is None else {"source": "local", "path": str(folder), "samples": ["ax"]}
    tasks = {"experiments": {"first": {"title": "One", "methods": ["finetune"], "tasks": ["mnli"]}}}
    return make_plan(**{"data": data, "seeds": [1, 2, 3], "tasks": ["mnli", "ax"]} | tasks | changes)


def leave(plan, folder, seed, classes, idx=None):
    idx = range(len(classes)) if idx is None else idx
    split = {"ax/test": (idx, [-1] * len(classes), deciding(classes, 3))}
    leave_run(plan, plan.run("finetune", "mnli", seed), folder, split)


def r3(truth, predictions):
    """Gorodkin 2004, written out as a correlation of indicator matrices."""
    truth, predictions = np.eye(3)[truth], np.eye(3)[predictions]
    truth, predictions = truth - truth.mean(axis=0), predictions - predictions.mean(axis=0)
    return (truth * predictions).sum() / np.sqrt((truth**2).sum() * (predictions**2).sum())


def test_r3_in_all_and_in_each_category(tmp_path, rows, random):
    plan = suite_of(write(rows, tmp_path / "full.tsv"))
    codes = np.array([LABELS.index(row["Label"]) for row in rows])
    predictions = {
        seed: np.where(random.random(EXAMPLES) < 0.6, codes, random.integers(0, 3, EXAMPLES)) for seed in (1, 2, 3)
    }
    order = random.permutation(EXAMPLES)  # idx says which example a prediction is of, not its place
    for seed, classes in predictions.items():
        leave(plan, tmp_path, seed, classes[order], order)
    table = diagnostic_table(plan, "first", tmp_path)
    positions = np.arange(EXAMPLES)
    parts = [positions >= 0, positions % 2 == 1, positions % 3 == 0, positions >= 0, positions < 5]
    assert [column.subheader for column in table.columns] == [(f"{part.sum()} examples",) for part in parts]
    for part, cell in zip(parts, table.rows[0].cells, strict=True):
        values = [100 * r3(codes[part], classes[part]) for classes in predictions.values()]
        assert cell.value == pytest.approx(np.mean(values))
        assert cell.data == {"sd": pytest.approx(np.std(values, ddof=1)), "n": 3}


def test_missing_seeds_and_missing_predictions_are_said(tmp_path, rows):
    plan = suite_of(write(rows, tmp_path / "full.tsv"))
    leave(plan, tmp_path, 1, [0] * EXAMPLES)
    leave_run(plan, plan.run("finetune", "mnli", 2), tmp_path, {"validation_matched": ([0], [0], deciding([0], 3))})
    cell = diagnostic_table(plan, "first", tmp_path).rows[0].cells[0]
    assert cell.value == 0  # one class for all orders nothing
    assert cell.notes == ("1 of 3 seeds; complete: it has no predictions of AX; missing: not run",)


def test_there_is_no_table_without_labels_ax_or_mnli(tmp_path, rows):
    file = write(rows, tmp_path / "full.tsv")
    other = {"first": {"title": "One", "methods": ["finetune"], "tasks": ["rte"]}}
    assert diagnostic_table(suite_of(None), "first", tmp_path) is None
    assert diagnostic_table(suite_of(file, tasks=["mnli"]), "first", tmp_path) is None
    assert diagnostic_table(suite_of(file, tasks=["mnli", "ax", "rte"], experiments=other), "first", tmp_path) is None


def refusal(plan, folder):
    with pytest.raises(UserError) as error:
        diagnostic_table(plan, "first", folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_wrong_file_is_named_with_what_was_expected(tmp_path, rows):
    file = tmp_path / "full.tsv"
    plan = suite_of(file)
    assert "no such file; set data.diagnostic" in refusal(plan, tmp_path)
    write([{key: text for key, text in row.items() if key != "Label"} for row in rows], file)
    assert refusal(plan, tmp_path).startswith(f"{file}: no column Label; expected GLUE's diagnostic-full.tsv")
    write([*rows[:3], rows[3] | {"Label": "maybe"}, *rows[4:]], file)
    assert refusal(plan, tmp_path) == f"{file}: line 5: label 'maybe', expected entailment, neutral, contradiction"
    file.write_bytes(b"\xff\xfe\x00")
    assert refusal(plan, tmp_path).startswith(f"{file}: not a readable table")


def test_a_file_of_other_rows_than_were_predicted_is_refused(tmp_path, rows):
    plan = suite_of(write(rows[:-1], tmp_path / "full.tsv"))
    leave(plan, tmp_path, 1, [0] * EXAMPLES)
    assert f"{EXAMPLES - 1} rows, but the AX that runs/finetune/mnli/seed-1 predicts has 30" in refusal(plan, tmp_path)


def test_the_pairs_are_checked_where_axs_table_is_at_hand(tmp_path, rows):
    (tmp_path / "ax").mkdir()
    pairs = {
        "premise": [row["Premise"].replace('"', "") for row in rows],
        "hypothesis": [r["Hypothesis"] for r in rows],
    }
    frame = pd.DataFrame(pairs | {"label": -1, "idx": range(EXAMPLES)})
    frame.sample(frac=1, random_state=0).to_parquet(tmp_path / "ax" / "test.parquet", index=False)
    plan = suite_of(write(rows, tmp_path / "full.tsv"), tmp_path)
    leave(plan, tmp_path, 1, [0] * EXAMPLES)
    assert diagnostic_table(plan, "first", tmp_path).rows[0].cells[0].value == 0
    write([*rows[:7], rows[8], rows[7], *rows[9:]], tmp_path / "full.tsv")
    assert "line 9 is not the pair that AX has as its number 7" in refusal(plan, tmp_path)


def test_an_example_of_several_phenomena_is_in_the_category_once(tmp_path, rows):
    task = make_plan().tasks["mnli"]
    diagnostic = read_diagnostic(write(rows, tmp_path / "full.tsv"), task)
    assert diagnostic.members["lexical_semantics"].sum() == EXAMPLES // 2
    assert diagnostic.labels[:4].tolist() == [LABELS.index(row["Label"]) for row in rows[:4]]
