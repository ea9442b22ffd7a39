"""The provenance of a suite: a valid crate, with checksums that hold and chains that can be walked."""

import hashlib
import json
import os
from pathlib import Path
from urllib.parse import unquote

import pytest
from crates import runs_of_cell
from rocrate.vocabs import RO_CRATE
from rocrate_validator.models import ValidationSettings
from rocrate_validator.services import validate
from rocrate_validator.utils.http import HttpRequester
from suites import deciding, leave_run, make_plan
from theseus_bench.errors import UserError
from theseus_bench.evaluation.trace import cell_runs
from theseus_bench.files import write_json
from theseus_bench.report.ro_crate import write_ro_crate
from theseus_bench.suite.outputs import CRATE_FILE

METHODS = ["predecessor", "finetune", "pkd", "theseus"]
PLAN = make_plan(tasks=["rte"], seeds=[1, 2], compact={}, experiments={"first": {"title": "One", "methods": METHODS}})
SEARCH_PLAN = make_plan(
    tasks=["rte"],
    seeds=[1],
    compact={},
    search={"budget": 2, "seeds": [101]},
    experiments={"first": {"title": "One", "methods": ["finetune"]}},
)
PROVENANCE = {
    "theseus_bench": "0.1.0",
    "code": "a" * 40,
    "python": "3.11.2",
    "libraries": {"torch": "2.9.0", "numpy": "2.3.0"},
    "platform": "Linux",
    "processor": "A processor",
    "cores": 2,
    "command": "theseus-bench train",
}
END_TIME = 1_700_000_000  # 2023-11-14T22:13:20Z
BIOSCHEMAS = "https://bioschemas.org/"
# What w3id.org would answer: RO-Crate's terms as `rocrate` brings them, but for four that version 1.1 has at other
# addresses, and the one term of workflow-run that is used.
CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": RO_CRATE["@context"]
    | {
        "ComputationalWorkflow": f"{BIOSCHEMAS}ComputationalWorkflow",
        "FormalParameter": f"{BIOSCHEMAS}FormalParameter",
        "input": f"{BIOSCHEMAS}ComputationalWorkflow#input",
        "output": f"{BIOSCHEMAS}ComputationalWorkflow#output",
    },
    "https://w3id.org/ro/terms/workflow-run/context": {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"},
}


class Answer:
    """What the validator gets for the address of a JSON-LD context."""

    status_code = 200
    headers = {"Content-Type": "application/ld+json"}

    def __init__(self, url: str):
        self.url = url

    def json(self) -> dict:
        return {"@context": CONTEXTS[self.url]}


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"the contents of {path}")


def leave(plan, folder: Path, name: str, seed: int, **record) -> None:
    """A run that ended at END_TIME and took 10 seconds."""
    run = plan.run(name, "rte", seed)
    values = {"provenance": PROVENANCE, "seconds": {"all": 10.0}} | record
    leave_run(plan, run, folder, {"validation": (range(3), [0, 1, 1], deciding([0, 1, 0], 2))}, **values)
    os.utime(folder / run.path / "run.json", (END_TIME, END_TIME))
    os.utime(folder / run.path / "predictions.parquet", (END_TIME, END_TIME))


def leave_inputs(plan, folder: Path) -> None:
    write_json(folder / "suite.json", plan.suite.model_dump())
    write(folder, "backbone/model.safetensors", "backbone/source.json")
    write(folder, "source/rte/train.parquet", "source/rte/validation.parquet", "source/rte/test.parquet")
    splits = {"train": {"rows": 2490, "sha256": "1" * 64}, "validation": {"rows": 277, "sha256": "2" * 64}}
    write_json(folder / "data/rte/data.json", {"task": "rte", "pad": 0, "splits": splits})


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite with a run that failed, one that crashed, one that was resumed and one that is missing."""
    leave_inputs(PLAN, tmp_path)
    for seed in (1, 2):
        leave(PLAN, tmp_path, "predecessor", seed)
        write(
            tmp_path,
            f"runs/predecessor/rte/seed-{seed}/model/model.safetensors",
            f"teacher/predecessor/rte/seed-{seed}/cls.npy",
        )
    leave(PLAN, tmp_path, "finetune", 1, resumed=1)
    leave(PLAN, tmp_path, "finetune", 2, status="failed", reason="at or below the majority class")
    leave(PLAN, tmp_path, "pkd", 1)
    leave(PLAN, tmp_path, "theseus", 1)
    write_json(tmp_path / "runs/theseus/rte/seed-2/error.json", {"reason": "MemoryError: out of memory"})
    write(tmp_path, "scores/first.parquet", "scores/first.csv", "speed/first.json", "report/index.html")
    write(tmp_path, "tables/first.csv", "tables/first_median.csv", "tables/first_verdicts.csv")
    return tmp_path


@pytest.fixture
def offline(monkeypatch) -> None:
    """The validator asks for JSON-LD contexts, and for nothing else."""
    monkeypatch.setattr(HttpRequester, "get", lambda self, url, **_: Answer(url), raising=False)


def crate_of(plan, folder: Path) -> dict:
    write_ro_crate(plan, folder)
    return json.loads((folder / CRATE_FILE).read_text())


def entities_of(crate: dict) -> dict[str, dict]:
    return {entity["@id"]: entity for entity in crate["@graph"]}


def ids(value) -> list[str]:
    return [one["@id"] for one in (value if isinstance(value, list) else [value])]


def problems(folder: Path, cache: Path) -> set[str]:
    """What the validator finds against the requirements of the profile and of those that it extends."""
    settings = ValidationSettings(
        rocrate_uri=str(folder),
        profile_identifier="provenance-run-crate",
        requirement_severity="REQUIRED",
        offline=True,
        cache_path=cache / "validator",
    )
    result = validate(settings)
    assert len(result.executed_checks) > 80, "the profiles were not checked"
    return {issue.message for issue in result.get_issues()}


@pytest.mark.slow
def test_the_validator_accepts_the_crate(suite, offline, tmp_path_factory):
    write_ro_crate(PLAN, suite)
    assert problems(suite, tmp_path_factory.mktemp("cache")) == set()


@pytest.mark.slow
def test_the_validator_accepts_the_crate_of_a_suite_that_has_only_a_configuration(tmp_path, offline, tmp_path_factory):
    write_json(tmp_path / "suite.json", PLAN.suite.model_dump())
    crate = entities_of(crate_of(PLAN, tmp_path))
    assert problems(tmp_path, tmp_path_factory.mktemp("cache")) == set()
    assert crate["#workflow"]["error"] == "8 of 8 runs have no record"


@pytest.mark.slow
def test_the_validator_refuses_a_crate_that_lacks_what_the_profile_requires(suite, offline, tmp_path_factory):
    crate = crate_of(PLAN, suite)
    entities = entities_of(crate)
    del entities["#train/pkd/rte/seed-1"]["instrument"]  # Process Run Crate
    del entities["code/Snakefile"]["programmingLanguage"]  # Workflow RO-Crate
    del entities["#step/score"]["workExample"]  # Provenance Run Crate
    (suite / "tables/first.csv").unlink()  # RO-Crate
    write_json(suite / CRATE_FILE, crate)
    issues = " ".join(problems(suite, tmp_path_factory.mktemp("cache")))
    for part in ("instrument property", "programmingLanguage", "via workExample", "tables/first.csv"):
        assert part in issues


def test_every_checksum_is_that_of_its_file(suite):
    files = [entity for entity in crate_of(PLAN, suite)["@graph"] if "sha256" in entity]
    assert {entity["@id"] for entity in files} >= {
        "suite.json",
        "backbone/model.safetensors",
        "source/rte/train.parquet",
        "runs/theseus/rte/seed-1/predictions.parquet",
        "tables/first.csv",
        "code/Snakefile",
        "code/workflow/rules/train.smk",
    }
    for entity in files:
        contents = (suite / unquote(entity["@id"])).read_bytes()
        assert entity["sha256"] == hashlib.sha256(contents).hexdigest(), entity["@id"]
        assert entity["contentSize"] == str(len(contents))


def test_nothing_refers_to_what_is_not_described(suite):
    crate = crate_of(PLAN, suite)
    profiles = {"https://w3id.org/ro/crate/1.1", "https://doi.org/10.1093/bioinformatics/bts480"}
    profiles |= {"https://snakemake.readthedocs.io"}
    missing_ids = {
        reference["@id"]
        for entity in crate["@graph"]
        for value in entity.values()
        for reference in (value if isinstance(value, list) else [value])
        if isinstance(reference, dict)
    } - entities_of(crate).keys()
    assert missing_ids <= profiles


def test_the_same_files_make_the_same_crate(suite):
    write_ro_crate(PLAN, suite)
    first = (suite / CRATE_FILE).read_bytes()
    write_ro_crate(PLAN, suite)
    assert (suite / CRATE_FILE).read_bytes() == first


def test_a_cell_leads_to_its_runs(suite):
    crate = crate_of(PLAN, suite)
    assert runs_of_cell(crate, "first", "predecessor", "", "rte") == [
        "#train/predecessor/rte/seed-1",
        "#train/predecessor/rte/seed-2",
    ]
    assert runs_of_cell(crate, "first", "theseus", "", "rte") == ["#train/theseus/rte/seed-1"]  # the other crashed
    assert runs_of_cell(crate, "first", "pkd", "", "rte") == ["#train/pkd/rte/seed-1"]
    assert runs_of_cell(crate, "first", "theseus", "constant", "rte") == []
    assert runs_of_cell(crate, "first", "theseus", "", "mrpc") == []


def test_the_crate_and_the_plan_say_the_same_of_a_cell(suite):
    crate = crate_of(PLAN, suite)
    for name in ("predecessor", "finetune"):  # no run of theirs is missing
        runs = [f"#train/{name}/{run.task.name}/seed-{run.seed}" for run in cell_runs(PLAN, "first", name, "rte")]
        assert len(runs) == 2
        assert runs_of_cell(crate, "first", name, "", "rte") == runs


def test_a_run_leads_to_data_backbone_predecessor_and_code(suite):
    entities = entities_of(crate_of(PLAN, suite))
    run = entities["#train/pkd/rte/seed-1"]
    read = ids(run["object"])
    assert {"data/rte/", "backbone/", "teacher/predecessor/rte/seed-1/", "runs/predecessor/rte/seed-1/run.json"} <= set(
        read
    )
    assert ids(run["result"]) == ["runs/pkd/rte/seed-1/run.json", "runs/pkd/rte/seed-1/predictions.parquet"]
    tool, code = (entities[name] for name in ids(run["instrument"]))
    assert (tool["name"], tool["softwareVersion"]) == ("BERT-PKD", str(PLAN.specs["pkd"].version))
    assert (code["softwareVersion"], code["identifier"]) == ("0.1.0", "a" * 40)
    assert "A processor, 2 cores" in code["description"]
    libraries = {
        entities[name]["name"]: entities[name]["softwareVersion"] for name in ids(code["softwareRequirements"])
    }
    assert libraries == {"Python": "3.11.2", "torch": "2.9.0", "numpy": "2.3.0"}
    facts = {
        entities[name]["name"]: entities[name]["value"] for name in ids(entities["data/rte/"]["additionalProperty"])
    }
    assert facts["rows of train"] == 2490
    assert facts["SHA-256 of the texts and labels of validation"] == "2" * 64
    assert ids(entities["#fetch/rte"]["object"])[-1] == f"https://huggingface.co/datasets/nyu-mll/glue/tree/{'0' * 40}"
    assert entities["backbone/"]["version"] == "0" * 40
    assert ids(entities["#teacher-outputs/predecessor/rte/seed-1"]["object"])[0] == "runs/predecessor/rte/seed-1/model/"


def test_the_report_leads_to_the_records_that_it_tells_of(suite):
    write(suite, "report/index.html", "search/pkd/rte.json")
    report = entities_of(crate_of(PLAN, suite))["#report"]
    read = ids(report["object"])
    assert {"runs/pkd/rte/seed-1/run.json", "runs/pkd/rte/seed-1/predictions.parquet", "search/pkd/rte.json"} <= {*read}
    assert not [name for name in read if "pkd/rte/seed-2" in name], "it has left nothing"


def test_times_are_those_of_the_files(suite):
    entities = entities_of(crate_of(PLAN, suite))
    assert entities["#train/pkd/rte/seed-1"]["endTime"] == "2023-11-14T22:13:20+00:00"
    assert entities["#train/pkd/rte/seed-1"]["startTime"] == "2023-11-14T22:13:10+00:00"
    assert "startTime" not in entities["#train/finetune/rte/seed-1"]  # its 10 seconds lie around a pause


def test_failed_and_crashed_runs_say_why_and_missing_ones_are_absent(suite):
    entities = entities_of(crate_of(PLAN, suite))
    failed_run, crashed_run = entities["#train/finetune/rte/seed-2"], entities["#train/theseus/rte/seed-2"]
    assert failed_run["actionStatus"] == crashed_run["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert failed_run["error"] == "at or below the majority class"
    assert crashed_run["error"] == "crashed: MemoryError: out of memory"
    assert ids(crashed_run["result"]) == ["runs/theseus/rte/seed-2/error.json"]
    assert entities["#train/theseus/rte/seed-1"]["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert "#train/pkd/rte/seed-2" not in entities
    assert entities["#workflow"]["error"] == "2 of 8 runs have no record"


def test_a_record_of_other_settings_is_left_out(suite):
    leave(PLAN, suite, "pkd", 2, fingerprint="f" * 16)
    entities = entities_of(crate_of(PLAN, suite))
    assert not [name for name in entities if "pkd/rte/seed-2" in name]


def test_a_searched_run_leads_to_what_was_tried(tmp_path):
    leave_inputs(SEARCH_PLAN, tmp_path)
    for name, seed in [("finetune@trial=0", 101), ("finetune@trial=1", 101), ("finetune", 1)]:
        leave(SEARCH_PLAN, tmp_path, name, seed)
    write(tmp_path, "search/finetune/rte.json", "scores/first.parquet", "tables/first.csv")
    crate = crate_of(SEARCH_PLAN, tmp_path)
    entities = entities_of(crate)
    assert runs_of_cell(crate, "first", "finetune", "", "rte") == ["#train/finetune/rte/seed-1"]
    assert runs_of_cell(crate, "first", "finetune", "trial=0", "rte") == []  # the search stands behind the run
    assert "search/finetune/rte.json" in ids(entities["#train/finetune/rte/seed-1"]["object"])
    trial_records = {name.rsplit("/", 1)[0] for name in ids(entities["#select-settings/finetune/rte"]["object"])}
    assert {unquote(name) for name in trial_records} == {f"runs/finetune@trial={k}/rte/seed-101" for k in (0, 1)}


def test_a_suite_without_a_configuration_is_a_clear_mistake(tmp_path):
    with pytest.raises(UserError, match=r"suite.json: no such file; make it with: theseus-bench configure"):
        write_ro_crate(PLAN, tmp_path)
