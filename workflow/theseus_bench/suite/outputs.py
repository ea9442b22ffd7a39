"""Which files are made of an experiment, by which step, and from what: the workflow's graph, written once.

The rules take their inputs and outputs from STEPS, the RO-Crate its actions, a rebuild its order, and the configuration
the names that no experiment can have. A step has one word: as rule, as command (with - for _) and as
folder of logs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from theseus_bench.checksums import LIST, sign, sign_folder

PARTIAL = "partial"  # the folder, in the suite's, of what is made of a suite that is not complete
FORMATS = ("html", "csv", "md", "tex")  # of a table
CRATE_FILE = "ro-crate-metadata.json"  # in the suite's folder
REPORT_FILES = ("report/index.html", "report/report.md", "report/report.pdf")
REPORT_LIST, CRATE_LIST = Path("report", LIST), Path(f".ro_crate{LIST}")  # of checksums

# Inputs that are more than one file, or not in the suite's folder; who reads STEPS knows what each stands for.
RECORDS = "records"  # run.json and predictions of the experiment's runs
PREDECESSORS = "predecessors"  # the same of the predecessors of its models
SOURCES = "sources"  # the same of all that its runs need: predecessors, trials, models of other tasks
SHAPES = "shapes"  # one record of each of its methods
SEARCHES = "searches"  # the files of its searches
LABELS = "labels"  # where the names of its methods and tasks come from
PUBLISHED = "published"  # the papers' numbers and claims
DIAGNOSTIC = "diagnostic"  # the labels and texts of AX, where they are at hand


@dataclass(frozen=True)
class Step:
    """What is made once for each experiment.

    `inputs` are kinds, as above, or patterns; `outputs` and `optional` are patterns of files in the suite's folder, of
    folders where they end in /. `optional` are outputs that some experiments do not have.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    optional: tuple[str, ...] = ()


def _tables(*endings: str) -> tuple[str, ...]:
    return tuple(f"tables/{{experiment}}{ending}.{form}" for ending in endings for form in FORMATS)


SCORES, SIGNIFICANCE, SPEED = "scores/{experiment}.parquet", "significance/{experiment}.json", "speed/{experiment}.json"
CURVES = "scores/{experiment}_curves.csv"

STEPS = {
    "score": Step((RECORDS,), (SCORES, "scores/{experiment}.csv", CURVES)),
    "speed": Step((SHAPES, "backbone"), (SPEED,)),
    "significance": Step((RECORDS, SCORES, PUBLISHED), (SIGNIFICANCE,)),
    "score_tables": Step(
        (RECORDS, SCORES, SIGNIFICANCE, SPEED, LABELS, PUBLISHED),
        _tables("", "_median", "_significance", "_seeds", "_ranks", "_aggregates", "_speed", "_timings"),
    ),
    "verdict_tables": Step((SCORES, SIGNIFICANCE, SPEED, LABELS, PUBLISHED), _tables("_verdicts", "_claims")),
    "search_tables": Step((SEARCHES, LABELS), _tables("_search", "_trials")),
    "description_tables": Step(
        (RECORDS, PREDECESSORS, SOURCES, SEARCHES, LABELS, DIAGNOSTIC),
        _tables("_behaviour", "_costs", "_selection"),
        _tables("_diagnostic"),
    ),
    "experiment_figures": Step(
        (RECORDS, SCORES, CURVES, SIGNIFICANCE, SPEED, LABELS, PUBLISHED), ("figures/{experiment}/",)
    ),
    "submissions": Step((RECORDS, LABELS), ("submissions/{experiment}/",)),
}

# The other rules: those of runs and of the suite, and the targets.
RULES = {"fetch", "backbone", "compact", "encode", "train", "train_teacher", "teacher_outputs", "select_settings"}
RULES |= {"suite_report", "ro_crate", "all", "tables", "figures", "report", "verify"}


def files_of(step: str, experiment: str, folder: Path) -> list[Path]:
    """The files and folders that a step makes of an experiment, as far as they are there."""
    patterns = STEPS[step].outputs + STEPS[step].optional
    return [file for name in patterns if (file := folder / name.format(experiment=experiment)).exists()]


def list_of(step: str, experiment: str, folder: Path) -> Path:
    """The list of checksums of what a step has made of an experiment (theseus_bench.checksums)."""
    pattern = STEPS[step].outputs[0]
    output = folder / pattern.format(experiment=experiment)
    return output / LIST if pattern.endswith("/") else output.parent / f".{step}.{experiment}{LIST}"


def sign_step(step: str, experiment: str, folder: Path) -> None:
    """Write the list of checksums of what a step has made of an experiment."""
    listing = list_of(step, experiment, folder)
    if listing.name == LIST:
        sign_folder(listing.parent)
    else:
        sign(files_of(step, experiment, folder), listing)


def reserved_names() -> set[str]:
    """The names of rules, which no experiment can have."""
    return RULES | STEPS.keys()


def reserved_endings() -> tuple[str, ...]:
    """What follows an experiment's name in files made of it: a name that ends so could be taken for one of them."""
    files = [file for step in STEPS.values() for file in step.outputs + step.optional]
    endings = dict.fromkeys(file.partition("{experiment}")[2].partition(".")[0].rstrip("/") for file in files)
    return tuple(filter(None, endings))
