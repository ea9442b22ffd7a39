"""The records in git: readable, whole, of the settings that their configuration asks for, and without a sentence."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from theseus_bench.strict_yaml import read_yaml
from theseus_bench.suite.load import load_plan
from theseus_bench.suite.status import state

PLAN = load_plan(read_yaml(Path("config/reference.yaml")))
FOLDER = Path(PLAN.folder)
PATHS = sorted(str(file.parent.relative_to(FOLDER)) for file in FOLDER.glob("runs/*/*/*/run.json"))


def test_there_are_some():
    assert PATHS


@pytest.mark.parametrize("path", PATHS)
def test_a_record_is_of_a_run_that_the_suite_asks_for_and_holds(path):
    status, reason, record = state(PLAN, PLAN.runs[path], FOLDER)
    assert record is not None, f"{status}: {reason}"
    assert record.chosen_on in ("held_out", "nothing")
    assert "dirty" not in record.provenance["code"]
    table = pq.read_schema(FOLDER / path / "predictions.parquet")
    assert table.names == ["split", "idx", "label", "logits"]
