"""Why a record is not what the plan asks for, in words."""

import pytest
from suites import deciding, leave_run, make_plan
from theseus_bench.suite.status import state

PREDICTIONS = {"validation": (range(2), [0, 1], deciding([0, 1], 2))}


def leave(plan, name, folder, **record):
    """The record that the plan's run of this name leaves on RTE with seed 1."""
    blocks = {"data_source": plan.suite.data, "backbone": plan.suite.backbone}
    sources = {key: block.model_dump(exclude_none=True) for key, block in blocks.items()}
    values = sources | {"method_version": plan.specs[name].version} | record
    leave_run(plan, plan.run(name, "rte", 1), folder, PREDICTIONS, **values)


def reason_of(plan, name, folder) -> str:
    """What is said of the run's record now."""
    return state(plan, plan.run(name, "rte", 1), folder)[1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"settings": [{"set": {"epochs": 7.0}}]}, "epochs 4.0 → 7.0"),
        ({"data": {"source": "demo", "rows": 40}}, "data.source hub → demo"),
        ({"backbone": {"source": "hub", "name": "some/bert", "revision": "1" * 40, "layers": 12}}, "backbone.name "),
    ],
)
def test_a_record_of_another_configuration_says_what_changed(tmp_path, changes, reason):
    leave(make_plan(compact={}), "finetune", tmp_path)
    text = reason_of(make_plan(compact={}, **changes), "finetune", tmp_path)
    assert text.startswith("its record is of other settings (")
    assert reason in text
    assert text.endswith("; the same snakemake command mends it")


def test_a_record_of_another_version_of_the_method_says_so(tmp_path):
    plan = make_plan(compact={})
    version = plan.specs["finetune"].version
    leave(plan, "finetune", tmp_path, method_version=version + 1, fingerprint="0" * 16)
    assert f"(version {version + 1} → {version})" in reason_of(plan, "finetune", tmp_path)


def test_a_student_of_another_predecessor_has_nothing_changed_of_its_own(tmp_path):
    plan = make_plan(compact={})
    leave(plan, "vanilla_kd", tmp_path, teacher=plan.fingerprint(plan.run("predecessor", "rte", 1)))
    changed = make_plan(compact={}, settings=[{"methods": ["predecessor"], "set": {"epochs": 9.0}}])
    assert "settings (its predecessor is of other settings)" in reason_of(changed, "vanilla_kd", tmp_path)


def test_what_is_said_of_the_data_of_other_tasks_is_no_cause(tmp_path):
    data = {"source": "demo", "rows": 40}
    leave(make_plan(compact={}, data=data | {"max_train": {"mrpc": 20, "rte": 20}}), "finetune", tmp_path)
    changed = make_plan(compact={}, data=data | {"max_train": {"mrpc": 25, "rte": 30}, "samples": ["mrpc"]})
    assert "settings (data.max_train 20 → 30)" in reason_of(changed, "finetune", tmp_path)


def test_another_compact_checkpoint_is_named(tmp_path):
    compact = {"source": "hub", "name": "some/compact", "revision": "1" * 40}
    plan = make_plan(compact={"distilbert": compact})
    leave(plan, "distilbert", tmp_path, compact=plan.suite.compact["distilbert"].model_dump(exclude_none=True))
    changed = make_plan(compact={"distilbert": compact | {"revision": "2" * 40}})
    text = reason_of(changed, "distilbert", tmp_path)
    assert f"settings (compact.revision {'1' * 40} → {'2' * 40})" in text


def test_a_record_of_other_code_of_its_method_does_not_hold_unless_records_are_trusted(tmp_path):
    plan = make_plan(compact={})
    leave(plan, "finetune", tmp_path, inputs={"methods/finetune/*.py": "0" * 64})
    assert reason_of(plan, "finetune", tmp_path).startswith("its record is of other code of its method; ")
    assert reason_of(make_plan(compact={}, trust_records=True), "finetune", tmp_path) == ""
