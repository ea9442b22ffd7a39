"""Where a suite's results come from: ro-crate-metadata.json in its folder, a Provenance Run Crate.

Each file has its SHA-256, but for those of a model, which is one entity. Each job of the workflow is an action: what it
read (object), what it made (result), which tool did it (instrument). So a table can be followed to its scores, to the
runs behind them, and from these to data, backbone, settings and code. What is not there is not described, so a suite
that is half done has a crate too.

The profile is https://w3id.org/ro/wfrun/provenance/0.5, which extends Workflow Run Crate 0.5, over RO-Crate 1.1. Times
are those of the files, and nothing is dated now, so equal files make equal crates.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rocrate.model import Entity
from rocrate.model.computerlanguage import get_lang

from theseus_bench.data.encoding import summary
from theseus_bench.errors import UserError
from theseus_bench.files import atomic, write_json
from theseus_bench.report.ro_crate_graph import ProvenanceGraph, iso_time, set_references
from theseus_bench.suite.config import Backbone, Compact
from theseus_bench.suite.method_spec import MethodSpec
from theseus_bench.suite.outputs import (
    CRATE_FILE,
    DIAGNOSTIC,
    LABELS,
    PREDECESSORS,
    PUBLISHED,
    RECORDS,
    SEARCHES,
    SHAPES,
    SOURCES,
    STEPS,
)
from theseus_bench.suite.plan import Plan, Run
from theseus_bench.suite.records import RunRecord
from theseus_bench.suite.status import state

CODE = "code"  # the folder in the suite's that holds a copy of the workflow, with its own layout
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
LICENSE = "https://spdx.org/licenses/Apache-2.0"
PARAMETERS = {"method": "Text", "variant": "Text", "task": "Text", "seed": "Integer"}  # what tells one run from another
OUTSIDE = {LABELS, PUBLISHED, DIAGNOSTIC, PREDECESSORS}  # inputs of steps that are not of the suite, or among SOURCES
RunStates = dict[str, tuple[str, RunRecord | None]]  # by the run's path: why it failed or is missing, and its record


def write_ro_crate(plan: Plan, folder: Path) -> None:
    """Write ro-crate-metadata.json into the suite's `folder`, and a copy of the workflow into `folder`/code.

    Runs whose record is of other settings are left out, as everywhere. UserError if the suite has no suite.json.
    """
    if not (folder / "suite.json").is_file():
        raise UserError(
            f"{folder / 'suite.json'}: no such file; make it with: theseus-bench configure {folder} YOUR_CONFIG"
        )
    graph = ProvenanceGraph(folder)
    graph.add_action(
        "configure", "", [], ["suite.json"], dated=False
    )  # the file is written anew whenever the workflow starts
    _add_inputs(graph, plan)
    states: RunStates = {path: state(plan, run, folder)[1:] for path, run in plan.runs.items()}
    for run in plan.runs.values():
        _add_run(graph, plan, run, states)
    _add_made_of_runs(graph, plan, states)
    _add_products(graph, plan, states)
    _add_workflow(graph, plan, sum(record is None for _, record in states.values()))
    write_json(folder / CRATE_FILE, graph.crate.metadata.generate())


def _add_inputs(graph: ProvenanceGraph, plan: Plan) -> None:
    """Tables, backbone, compact checkpoints and encoded tasks, with where they came from."""
    source = _data_source(graph, plan)
    tables = {task: graph.find_paths([f"source/{task}/*.parquet"]) for task in plan.suite.tasks}
    for task, files in tables.items():
        graph.add_action("fetch", task, ["suite.json", source], files)
    origin = _checkpoint_source(graph, plan.suite.backbone, "backbone")
    _add_checkpoint(graph, "backbone", "backbone", "", [origin], plan.suite.backbone.revision)
    for task, files in tables.items():
        _add_encoded(graph, task, files or [source])
    for method, compact in plan.suite.compact.items():
        text = [f"data/{task}" for task in plan.trained_tasks] + ["backbone"] if compact.source == "recipe" else []
        origin = None if compact.source == "recipe" else _checkpoint_source(graph, compact, f"compact/{method}")
        _add_checkpoint(graph, f"compact/{method}", "compact", method, [origin, *text], compact.revision)


def _data_source(graph: ProvenanceGraph, plan: Plan) -> Entity | None:
    data = plan.suite.data
    if data.source == "hub":
        url = f"https://huggingface.co/datasets/{data.name}/tree/{data.revision}"
        return graph.add_entity(url, "CreativeWork", name=data.name, version=data.revision, url=url)
    if data.source == "local":
        return graph.add_entity("#data", "CreativeWork", name=f"the user's tables in {data.path}")
    return None  # generated from the configuration


def _checkpoint_source(graph: ProvenanceGraph, source: Backbone | Compact, identifier: str) -> Entity | None:
    if source.source == "hub":
        url = f"https://huggingface.co/{source.name}/tree/{source.revision or 'main'}"
        pinned = {"version": source.revision} if source.revision else {}
        return graph.add_entity(url, "CreativeWork", name=source.name, url=url, **pinned)
    if source.source == "demo":
        return graph.add_path("suite.json")  # pretrained as the configuration says
    return graph.add_entity(f"#{identifier}", "CreativeWork", name=f"{source.source} {source.name}")


def _add_checkpoint(
    graph: ProvenanceGraph, path: str, command: str, key: str, inputs: list[str | Entity | None], revision: str | None
) -> None:
    checkpoint = graph.add_path(path, **({"version": revision} if revision else {}))
    if checkpoint is not None:
        set_references(checkpoint, "hasPart", [graph.add_path(file) for file in graph.find_paths([f"{path}/[!.]*"])])
        graph.add_action(command, key, inputs, [path])


def _add_encoded(graph: ProvenanceGraph, task: str, tables: Sequence[str | Entity | None]) -> None:
    """An encoded task, with the rows and the content's checksum of each split
    (theseus_bench.data.parquet.content_sha256)."""
    path = f"data/{task}"
    dataset, table = graph.add_path(path), graph.add_path(f"{path}/data.json")
    if dataset is None or table is None:
        return
    facts = []
    for split, split_summary in summary(graph.folder / path)["splits"].items():
        identifier = f"#{path}/{split}"
        facts += [
            graph.add_entity(
                f"{identifier}/rows", "PropertyValue", name=f"rows of {split}", value=split_summary["rows"]
            ),
            graph.add_entity(
                f"{identifier}/sha256",
                "PropertyValue",
                name=f"SHA-256 of the texts and labels of {split}",
                value=split_summary["sha256"],
            ),
        ]
    dataset["hasPart"] = table
    dataset["additionalProperty"] = facts
    graph.add_action("encode", task, ["backbone", *tables], [path])


def _add_run(graph: ProvenanceGraph, plan: Plan, run: Run, states: RunStates) -> None:
    """One run, complete, failed or crashed; nothing for a run that is missing."""
    reason, record = states[run.path]
    if record is not None:
        outputs = [f"{run.path}/{name}" for name in ("run.json", "predictions.parquet", "model")]
        environment = _environment(graph, record)
    elif reason.startswith("crashed"):
        outputs, environment = [f"{run.path}/error.json"], None
    else:
        return
    properties: dict[str, Any] = {}
    if record is None or record.status == "failed":
        properties = {"actionStatus": "http://schema.org/FailedActionStatus", "error": reason}
    if record is not None and record.resumed == 0 and "all" in record.seconds:  # one that was resumed had pauses
        end_time = (graph.folder / run.path / "run.json").stat().st_mtime
        properties["startTime"] = iso_time(end_time - record.seconds["all"])
    values: dict[str, str | int] = {
        "method": run.spec.name,
        "variant": run.variant,
        "task": run.task.name,
        "seed": run.seed,
    }
    parameters = [_parameter(graph, key, value) for key, value in values.items() if value != ""]
    instruments = tuple(filter(None, (_method(graph, run.spec), environment)))
    inputs = [*parameters, *_read_by(plan, run, states)]
    graph.add_action("train", run.path.removeprefix("runs/"), inputs, outputs, instruments, **properties)


def _read_by(plan: Plan, run: Run, states: RunStates) -> list[str]:
    """What a run reads, as the workflow gives it: data, backbone, and what is there of the runs it stands on."""
    inputs = [f"data/{task}" for task in plan.predicted_with(run.task.name)] + ["backbone"]
    dependencies = {}
    if run.learns:
        dependencies[plan.teacher_of(run).path] = "teacher_model" in run.needs
    if run.spec.source:
        dependencies[plan.source_of(run).path] = True
    for path, model in dependencies.items():
        if states[path][1] is not None:
            inputs += [f"{path}/run.json", *[f"{path}/model"] * model]
    if "teacher_outputs" in run.needs:
        inputs.append(plan.teacher_outputs_of(run))
    if "compact_checkpoint" in run.needs:
        inputs.append(f"compact/{run.spec.name}")
    return inputs + ([run.search_file] if run.trials else [])


def _parameter(graph: ProvenanceGraph, key: str, value: str | int) -> Entity:
    formal = _formal_parameter(graph, key)
    return graph.add_entity(f"#{key}/{value}", "PropertyValue", name=key, value=value, exampleOfWork={"@id": formal.id})


def _formal_parameter(graph: ProvenanceGraph, key: str) -> Entity:
    return graph.add_entity(
        f"#parameter/{key}", "FormalParameter", name=key, additionalType=PARAMETERS.get(key, "File")
    )


def _method(graph: ProvenanceGraph, spec: MethodSpec) -> Entity:
    """A method at its version: the tool of its runs."""
    properties = {"description": spec.summary, "softwareVersion": str(spec.version), "citation": spec.citation}
    tool = graph.add_entity(f"#tool/{spec.name}/{spec.version}", "SoftwareApplication", name=spec.label, **properties)
    set_references(tool, "input", [_formal_parameter(graph, key) for key in PARAMETERS])
    return tool


def _environment(graph: ProvenanceGraph, record: RunRecord) -> Entity:
    """The code, libraries and machine of a run, once for all runs that had the same."""
    provenance = {key: value for key, value in record.provenance.items() if key != "command"}
    name = hashlib.sha256(json.dumps(provenance, sort_keys=True).encode()).hexdigest()[:12]
    libraries = [
        graph.add_entity(url, "SoftwareApplication", name=library, softwareVersion=version, url=url)
        for library, version in provenance.get("libraries", {}).items()
        for url in [f"https://pypi.org/project/{library}/{version}/"]
    ]
    if "python" in provenance:
        properties = {"softwareVersion": provenance["python"], "url": "https://www.python.org/"}
        libraries.insert(
            0, graph.add_entity(f"#python/{provenance['python']}", "SoftwareApplication", name="Python", **properties)
        )
    properties = {"name": "theseus-bench"}
    if provenance:
        properties |= {
            "softwareVersion": provenance["theseus_bench"],
            "identifier": provenance["code"],
            "operatingSystem": provenance["platform"],
            "description": f"As it trained on {provenance['processor']}, {provenance['cores']} cores.",
        }
    environment = graph.add_entity(f"#theseus-bench/{name}", "SoftwareApplication", **properties)
    set_references(environment, "softwareRequirements", libraries)
    return environment


def _add_made_of_runs(graph: ProvenanceGraph, plan: Plan, states: RunStates) -> None:
    """The predecessors' stored outputs, and what the searches have chosen."""
    students = [run for run in plan.runs.values() if "teacher_outputs" in run.needs]
    for outputs, run in {plan.teacher_outputs_of(run): plan.teacher_of(run) for run in students}.items():
        if states[run.path][1] is not None:
            key = outputs.removeprefix("teacher/")
            graph.add_action("teacher-outputs", key, [f"{run.path}/model", f"data/{run.task.name}"], [outputs])
    for file, run in {run.search_file: run for run in plan.runs.values() if run.trials}.items():
        key = file.removeprefix("search/").removesuffix(".json")
        graph.add_action("select-settings", key, _records(plan.trials_of(run), states), [file])


def _records(runs: Iterable[Run], states: RunStates) -> list[str]:
    """The records and predictions of the runs that have them."""
    paths = dict.fromkeys(run.path for run in runs if states[run.path][1] is not None)
    return [f"{path}/{name}" for path in paths for name in ("run.json", "predictions.parquet")]


def _add_products(graph: ProvenanceGraph, plan: Plan, states: RunStates) -> None:
    """What is made of each experiment, and the report on all."""
    for name in plan.suite.experiments:
        runs = plan.experiment_runs(name)
        first_runs = {run.name: run for run in reversed(runs) if states[run.path][1] is not None}
        files = {
            RECORDS: _records(runs, states),
            SOURCES: _records(plan.with_dependencies(runs).values(), states),
            SHAPES: [f"{run.path}/run.json" for run in first_runs.values()],
            SEARCHES: list(dict.fromkeys(run.search_file for run in runs if run.trials)),
        }
        for step, files_of_step in STEPS.items():
            input_names = [name for name in files_of_step.inputs if name in files or name not in OUTSIDE]
            inputs = [
                path
                for input_name in input_names
                for path in files.get(input_name, graph.find_paths([_pattern(input_name, name)]))
            ]
            outputs = graph.find_paths(
                _pattern(output, name) for output in files_of_step.outputs + files_of_step.optional
            )
            graph.add_action(step.replace("_", "-"), name, list(dict.fromkeys(inputs)), outputs)
    inputs = _records(plan.runs.values(), states)
    inputs += graph.find_paths(["search/*/*.json"])
    inputs += graph.find_paths(
        ["scores/*.parquet", "tables/*.csv", "speed/*.json", "significance/*.json", "figures/*/*"]
    )
    graph.add_action(
        "report",
        "",
        inputs,
        graph.find_paths(["report/*"]),
    )


def _pattern(output: str, experiment: str) -> str:
    """The files of an output of a step, as a pattern inside the suite's folder."""
    return output.format(experiment=experiment) + ("*" if output.endswith("/") else "")


def _add_workflow(graph: ProvenanceGraph, plan: Plan, missing: int) -> None:
    """The workflow with its steps, its run as a whole, and what the crate says of itself."""
    version = importlib.metadata.version("snakemake")
    workflow = _copy_workflow(graph)
    workflow["programmingLanguage"] = graph.crate.add(get_lang(graph.crate, "snakemake", version))
    set_references(workflow, "hasPart", [tool for tools in graph.tools.values() for tool in tools.values()])
    steps, controls = [], []
    for command, actions in graph.actions.items():
        step = graph.add_entity(f"#step/{command}", "HowToStep", name=command)
        set_references(step, "workExample", graph.tools[command].values())
        control = graph.add_entity(f"#jobs/{command}", "ControlAction", name=f"the jobs of {command}")
        set_references(control, "instrument", [step])
        set_references(control, "object", actions)
        steps.append(step)
        controls.append(control)
    set_references(workflow, "step", steps)
    configuration = _formal_parameter(graph, "configuration")
    set_references(workflow, "input", [configuration])
    set_references(graph.add_path("suite.json"), "exampleOfWork", [configuration])
    jobs = [action for actions in graph.actions.values() for action in actions]
    run = _add_workflow_run(graph, plan, workflow, jobs, missing)
    url = f"https://pypi.org/project/snakemake/{version}/"
    engine = graph.add_entity(url, "SoftwareApplication", name="Snakemake", softwareVersion=version, url=url)
    organize = graph.add_entity("#engine", "OrganizeAction", name="Snakemake")
    set_references(organize, "instrument", [engine])
    set_references(organize, "object", controls)
    set_references(organize, "result", [run])
    _describe(graph, plan, workflow, [run, *jobs])


def _copy_workflow(graph: ProvenanceGraph) -> Entity:
    """The Snakefile with its rules, copied so that their includes hold; they are as they are now."""
    rules = sorted(Path("workflow/rules").glob("*.smk"))
    for file in [Path("Snakefile"), *rules]:
        with atomic(graph.folder / CODE / file) as scratch:
            shutil.copyfile(file, scratch)
    for file in rules:
        graph.add_path(f"{CODE}/{file}", **{"@type": ["File", "SoftwareSourceCode"]}, version=graph.revision)
    license_ = graph.add_entity(LICENSE, "CreativeWork", name="Apache License 2.0", url=LICENSE)
    return graph.add_path(
        f"{CODE}/Snakefile",
        **{"@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]},
        version=graph.revision,
        license={"@id": license_.id},
    )


def _add_workflow_run(graph: ProvenanceGraph, plan: Plan, workflow: Entity, jobs: list[Entity], missing: int) -> Entity:
    """The suite as one run of the workflow; failed where runs that it asks for are missing."""
    run = graph.add_entity("#workflow", "CreateAction", name=f"The suite {plan.suite.suite}")
    run["instrument"] = workflow
    run["object"] = graph.add_path("suite.json")
    set_references(
        run, "result", [graph.add_path(path) for path in graph.find_paths(["tables/*", "report/*", "submissions/*"])]
    )
    starts = [action["startTime"] for action in jobs if "startTime" in action]
    ends = [action["endTime"] for action in jobs if "endTime" in action]
    if starts:
        run["startTime"] = min(starts)
    if ends:
        run["endTime"] = max(ends)
    status = "FailedActionStatus" if missing else "CompletedActionStatus"
    run["actionStatus"] = f"http://schema.org/{status}"
    if missing:
        run["error"] = f"{missing} of {len(plan.runs)} runs have no record"
    return run


def _describe(graph: ProvenanceGraph, plan: Plan, workflow: Entity, actions: list[Entity]) -> None:
    profiles = [
        graph.add_entity(url, "CreativeWork", name=name, version=url.rsplit("/", 1)[1])
        for url, name in PROFILES.items()
    ]
    crate, root = graph.crate, graph.crate.root_dataset
    crate.metadata["conformsTo"] = [{"@id": crate.metadata.profile}, profiles[-1]]
    root["conformsTo"] = profiles
    root["name"] = f"theseus-bench, suite {plan.suite.suite}"
    root["description"] = (
        f"The results of the suite {plan.suite.suite} of theseus-bench, a reproducibility benchmark of BERT "
        "compression, with what they were made of. Each training run names the code, libraries and machine that its "
        "record does; commands, Snakefile and Snakemake are described as they were when this was written."
    )
    root["license"] = "The workflow: Apache License 2.0. Data and models: the terms of their sources."
    root["mainEntity"] = workflow
    root["mentions"] = actions
    ends = [action["endTime"] for action in actions if "endTime" in action]
    suite = (graph.folder / "suite.json").stat().st_mtime
    root["datePublished"] = max(ends, default=iso_time(suite))
