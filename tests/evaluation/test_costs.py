"""What methods cost on a suite of known records: own runs, searches, and what is needed of others."""

import pytest
from suites import leave_run, make_plan
from theseus_bench.evaluation.costs import total_costs
from theseus_bench.tables.costs import costs_table
from theseus_bench.tables.formats import to_csv, to_html
from theseus_bench.tables.latex import to_latex

SUITE = {
    "seeds": [1, 2],
    "tasks": ["rte"],
    "search": {"budget": {"equal": 2}, "seeds": [101]},
    "equal": {"search": {"start": ["pretrained", "predecessor"]}},
    "experiments": {
        "first": {"title": "One", "methods": ["majority", "predecessor", "finetune", "theseus"], "tasks": ["rte"]},
        "second": {"title": "Two", "methods": ["finetune"], "protocols": ["equal"], "tasks": ["rte"]},
    },
}
COST = {"flops": {"training": 4e15, "evaluation": 1e15}, "energy_joules": 500.0, "peak_memory_mb": 100.0}


@pytest.fixture
def plan():
    return make_plan(**SUITE)


def leave(plan, folder, **changes):
    """A record for every run of the suite; of the predecessor's 100 device-seconds, of the others 10."""
    for run in plan.runs.values():
        seconds = {"training": 1.0, "all": 100.0 if run.spec.role == "teacher" else 10.0}
        leave_run(plan, run, folder, {}, **COST | {"seconds": seconds} | changes)


def cells(plan, experiment, folder, label):
    table = costs_table(plan, experiment, folder)
    row = next(row for row in table.rows if row.label == label)
    return dict(zip([column.key for column in table.columns], row.cells, strict=True))


def test_a_method_shows_its_own_cost_and_what_it_stands_on(plan, tmp_path):
    leave(plan, tmp_path)
    finetune, theseus = (cells(plan, "first", tmp_path, label) for label in ("Fine-tuning", "BERT-of-Theseus"))
    for costs, needs in ((finetune, 0), (theseus, 200)):
        assert costs["runs"].value == 2
        assert costs["device_seconds"].value == 20
        assert costs["search_device_seconds"].value == 0
        assert costs["needs_device_seconds"].value == needs
        assert costs["training_flops"].value == pytest.approx(8e15)
        assert costs["evaluation_flops"].value == pytest.approx(2e15)
        assert costs["energy_kj"].value == pytest.approx(1)
        assert costs["peak_memory_mb"].value == 100
        assert not any(cell.notes for cell in costs.values())


def test_a_search_counts_apart_with_the_predecessors_that_it_needed(plan, tmp_path):
    leave(plan, tmp_path)
    row_cells = cells(plan, "second", tmp_path, "Fine-tuning (equal)")
    assert len(plan.trials_of(plan.run("finetune@equal", "rte", 1))) == 2  # for both seeds together
    assert row_cells["device_seconds"].value == 20
    assert row_cells["search_device_seconds"].value == 2 * 10 + 100  # a try may start from the predecessor of its seed
    assert (
        row_cells["needs_device_seconds"].value == 200 + 2 * 100
    )  # the predecessors of both seeds, searched themselves


def test_the_largest_memory_counts(plan, tmp_path):
    leave(plan, tmp_path)
    leave_run(plan, plan.run("finetune", "rte", 2), tmp_path, {}, **COST | {"peak_memory_mb": 300.0})
    assert cells(plan, "first", tmp_path, "Fine-tuning")["peak_memory_mb"].value == 300


def test_what_is_not_known_is_said(plan, tmp_path):
    leave(plan, tmp_path, flops=None, energy_joules=None)
    (tmp_path / plan.run("finetune", "rte", 1).path / "run.json").unlink()
    for seed in (1, 2):
        (tmp_path / plan.run("theseus", "rte", seed).path / "run.json").unlink()
    finetune, theseus = (cells(plan, "first", tmp_path, label) for label in ("Fine-tuning", "BERT-of-Theseus"))
    assert finetune["runs"].value == 1
    assert finetune["runs"].data == {"asked": 2}
    assert (finetune["device_seconds"].value, finetune["device_seconds"].notes) == (10, ("of 1 of 2 runs",))
    for key in ("training_flops", "evaluation_flops", "energy_kj"):
        assert (finetune[key].value, finetune[key].notes) == (None, ("not measured",))
    assert theseus["device_seconds"].notes == ("no run has left a record",)
    assert theseus["needs_device_seconds"].value == 200


def test_operations_are_shown_as_powers_of_ten(plan, tmp_path):
    leave(plan, tmp_path, flops={"training": 2.1e11, "evaluation": 3e12})
    table = costs_table(plan, "first", tmp_path)
    assert "4.2 · 10¹¹" in to_html(table), "two runs of 2.1e11"
    assert r"4.2 $\cdot$ 10$^{1}$$^{1}$" in to_latex(table)
    assert ",4.2e+11,6e+12," in to_csv(table), "plain numbers in the files"


def test_the_total_counts_each_run_once_and_searches_apart(plan, tmp_path):
    leave(plan, tmp_path)
    total = total_costs(plan, tmp_path)
    # Majority, fine-tuning, Theseus and equal fine-tuning twice, two predecessors of either protocol; two tries, their
    # predecessor, and two tries for its own settings.
    assert total == {
        "runs": 17,
        "device_seconds": 8 * 10 + 4 * 100,
        "search_device_seconds": 2 * 10 + 100 + 2 * 100,
        "flops": pytest.approx(17 * 5e15),
        "energy_joules": pytest.approx(17 * 500),
        "peak_memory_mb": 100.0,
    }


def test_a_total_of_which_a_part_is_unknown_is_not_given(plan, tmp_path):
    leave(plan, tmp_path)
    leave_run(plan, plan.run("theseus", "rte", 1), tmp_path, {}, seconds={"all": 10.0}, flops=None, energy_joules=None)
    total = total_costs(plan, tmp_path)
    assert (total["flops"], total["energy_joules"]) == (None, None)
    assert total["device_seconds"] == 480
    empty = total_costs(plan, tmp_path / "nothing")
    assert (empty["runs"], empty["flops"], empty["peak_memory_mb"]) == (0, None, None)
