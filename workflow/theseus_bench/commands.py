"""The commands: every rule of the workflow is one of these, so every step also runs by hand.

Commands are given the folder of a suite, results/<suite>, whose suite.json the workflow has written. They are run from
the project's root. Libraries that take seconds to import are imported by the commands that need them.

The file is long, since each command stands here with its words and their help, and short in each: the work is done in
the packages.
"""

from __future__ import annotations

import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from theseus_bench import preload
from theseus_bench.errors import UserError, message_of
from theseus_bench.stopping import GO_ON, Stopped, stop_by_signal

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.splitlines()[0]
)
Folder = Annotated[Path, typer.Argument(help="the suite's folder, results/<suite>", metavar="SUITE")]
Configs = Annotated[list[str], typer.Argument(help="a configuration's files, each over the last", metavar="CONFIG...")]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--config",
        help="laid over the files, as snakemake's",
        metavar="KEY=VALUE...",
        default_factory=list,
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Argument(min=0, max=2**32 - 1)]
Debug = Annotated[bool, typer.Option("--debug", help="with the traceback of an error in the method's code")]


@app.command()
def configure(folder: Folder, configs: Configs, config: Overrides) -> None:
    """Check a configuration and write it to SUITE/suite.json, where the other commands read it, as snakemake does."""
    from theseus_bench.files import write_json
    from theseus_bench.suite.load import load_plan

    values = _read(configs, config)
    print_faults(load_plan(values).faults)
    write_json(folder / "suite.json", values, sealed=True)


@app.command()
def plan(
    configs: Configs,
    config: Overrides,
    gpu: Annotated[str | None, typer.Option(help="a GPU such as a100: the time on it, and not on this machine")] = None,
) -> None:
    """Say what a configuration asks for: runs, time, disk, downloads, and which differences its seeds can show."""
    from theseus_bench.evaluation.cost import Cost
    from theseus_bench.evaluation.power import describe_power
    from theseus_bench.suite.load import load_plan

    values = _read(configs, config)
    suite_plan = load_plan(values)
    print_faults(suite_plan.faults)
    for name in values["experiments"].keys() - suite_plan.suite.experiments.keys():
        print(f"{name}: left out, as the suite lacks its tasks")
    for name, experiment in suite_plan.suite.experiments.items():
        final, total = len(suite_plan.experiment_runs(name)), len(suite_plan.all_runs(name))
        print(f"{name}: {experiment.title}: {final} runs, {total} with the searches and models that they need")
    print(f"in all {len(suite_plan.runs)} runs, each trained once")
    cost = Cost(suite_plan, Path(suite_plan.folder), gpu)
    print(*cost.describe(), sep="\n")
    for name in suite_plan.suite.experiments:
        print(*describe_power(suite_plan, name, cost.records.values()), sep="\n")


@app.command()
def settings(
    words: Annotated[
        list[str], typer.Argument(help="METHOD may be METHOD@VARIANT: theseus@equal", metavar="CONFIG... METHOD TASK")
    ],
    config: Overrides,
) -> None:
    """Print every setting of METHOD on TASK as a configuration has it, with the layer that set it."""
    from theseus_bench.suite.load import load_plan
    from theseus_bench.suite.settings_listing import list_settings

    words, pairs = _split_pairs(words, config)
    if len(words) < 3:
        raise UserError("settings: name one configuration or more, a method and a task: config/demo.yaml theseus rte")
    *configs, method, task = words
    suite_plan = load_plan(_read(configs, pairs))
    print_faults(suite_plan.faults)
    print(*list_settings(suite_plan, method, task), sep="\n")


@app.command()
def prefetch(
    configs: Configs,
    config: Overrides,
    dry_run: Annotated[bool, typer.Option(help="list what would be fetched, and fetch no more than cards")] = False,
) -> None:
    """Bring all that a suite has from the hub into the hub's cache, so that its jobs need no network, and list it."""
    from theseus_bench.suite.load import load_plan
    from theseus_bench.training.prefetch import list_downloads, prefetch_downloads

    suite_plan = load_plan(_read(configs, config))
    for line in list_downloads(suite_plan) if dry_run else prefetch_downloads(suite_plan):
        print(line, flush=True)


@app.command()
def fetch(folder: Folder, task: str, output: Path) -> None:
    """Put a task's tables into OUTPUT: from the hub at the pinned revision, or generated for the demo."""
    from theseus_bench.suite.load import read_plan
    from theseus_bench.training.inputs import fetch_task

    fetch_task(read_plan(folder), task, output)


@app.command()
def backbone(folder: Folder) -> None:
    """Put the backbone's checkpoint into SUITE/backbone: copied or fetched, or pretrained for the demo."""
    from theseus_bench.locks import exclusive_lock
    from theseus_bench.suite.load import read_plan
    from theseus_bench.suite.progress_file import progress_file
    from theseus_bench.training.inputs import make_backbone
    from theseus_bench.training.progress import show_progress

    suite_plan, place = read_plan(folder), "backbone"
    pretrains = suite_plan.suite.backbone.source == "demo"  # a download ends at once where it is asked to
    with exclusive_lock(folder, place), show_progress(place, progress_file(folder, place)), stop_by_signal(pretrains):
        make_backbone(suite_plan, folder)


@app.command()
def compact(folder: Folder, method: str) -> None:
    """Put the compact checkpoint that METHOD needs into SUITE/compact/METHOD: fetched, or distilled by its recipe."""
    from theseus_bench.locks import exclusive_lock
    from theseus_bench.suite.load import read_plan
    from theseus_bench.suite.progress_file import progress_file
    from theseus_bench.training.inputs import make_compact_checkpoint
    from theseus_bench.training.progress import show_progress

    suite_plan, place = read_plan(folder), f"compact/{method}"
    source = suite_plan.suite.compact.get(method)
    distils = source is not None and source.source == "recipe"  # a download ends at once where it is asked to
    with exclusive_lock(folder, place), show_progress(place, progress_file(folder, place)), stop_by_signal(distils):
        make_compact_checkpoint(suite_plan, method, folder)


@app.command()
def encode(folder: Folder, task: str) -> None:
    """Check a task's tables and tokenize them into SUITE/data/TASK."""
    from theseus_bench.checksums import check_folder
    from theseus_bench.data.encoding import encode_task
    from theseus_bench.data.tasks import find_task
    from theseus_bench.suite.load import read_plan
    from theseus_bench.suite.plan import source_files

    suite_plan = read_plan(folder)
    data, definition = suite_plan.suite.data, find_task(suite_plan.tasks, task, "encode")
    files = {Path(file).stem: Path(file) for file in source_files(suite_plan, task)}
    if data.source != "local":
        check_folder(folder / "source" / task)
    sample = task in data.samples or data.source == "demo"
    encode_task(
        definition,
        files,
        folder / "backbone",
        folder / "data" / task,
        sample,
        verify=data.source == "local",
        max_train=data.max_train.get(task),
    )


@app.command()
def train(
    folder: Folder,
    method: str,
    task: str,
    seed: Seed,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="another setting, for a run METHOD@KEY=VALUE; repeat for more"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Train METHOD (or METHOD@VARIANT) on TASK with SEED and write its record and predictions.

    A run whose record is there already, of the same settings and made of the same contents, is kept as it is. Exit code
    75: it had to stop, and the same command goes on from its checkpoint.
    """
    from theseus_bench.locks import exclusive_lock
    from theseus_bench.suite.load import read_plan
    from theseus_bench.suite.run_files import keep_run
    from theseus_bench.suite.run_names import RunName

    suite_plan = read_plan(folder)
    run = suite_plan.run(str(RunName.parse(method).setting(*changes or [])), task, seed)
    with print_cause(debug), exclusive_lock(folder, run.path):
        if keep_run(suite_plan, run, folder):
            print(f"{run.path}: kept, as it was made of the same")
            return
        from theseus_bench.suite.progress_file import progress_file
        from theseus_bench.training.progress import show_progress
        from theseus_bench.training.run import execute

        title = f"{run.name} on {task}, seed {seed}"
        with show_progress(title, progress_file(folder, run.path)), stop_by_signal():
            record = execute(suite_plan, run, folder)
    score = "no score" if record.dev_score is None else f"dev score {100 * record.dev_score:.1f}"
    print(f"{run.path}: {record.status} {record.reason}: {score}, {record.seconds['all']:.1f} s".replace(" : ", ": "))


@app.command()
def select_settings(folder: Folder, method: str, task: str) -> None:
    """Choose the settings of METHOD (or METHOD@VARIANT) on TASK from the trials of its search."""
    from theseus_bench.evaluation.search import select_settings
    from theseus_bench.suite.load import read_plan

    suite_plan = read_plan(folder)
    select_settings(suite_plan, suite_plan.run(method, task, suite_plan.suite.seeds[0]), folder)


@app.command()
def submissions(folder: Folder, experiment: str) -> None:
    """Make files for the GLUE server of an experiment's test predictions, into SUITE/submissions/EXPERIMENT."""
    from theseus_bench.evaluation.submission import write_submissions

    _make("submissions", write_submissions, folder, experiment)


@app.command()
def teacher_outputs(folder: Folder, predecessor: str, task: str, seed: Seed) -> None:
    """Store the outputs of PREDECESSOR (predecessor, or predecessor@equal) on TASK's training set for its students."""
    from theseus_bench.suite.load import read_plan
    from theseus_bench.training.run import store_teacher_outputs

    suite_plan = read_plan(folder)
    store_teacher_outputs(suite_plan, suite_plan.run(predecessor, task, seed), folder)


@app.command()
def speed(folder: Folder, experiment: str) -> None:
    """Measure the compressed models of an experiment, interleaved, into SUITE/speed/EXPERIMENT.json."""
    from theseus_bench.evaluation.speed_benchmark import measure_experiment
    from theseus_bench.locks import exclusive_lock

    machine = f"speed/{socket.gethostname()}"  # two at once on it, of whatever experiments, would slow each other down
    with exclusive_lock(folder, f"speed/{experiment}.json"), exclusive_lock(folder, machine):
        _make("speed", measure_experiment, folder, experiment)


@app.command()
def score(folder: Folder, experiment: str) -> None:
    """Score the predictions that an experiment's runs have left, into SUITE/scores/EXPERIMENT.parquet and .csv."""
    from theseus_bench.evaluation.scores import write_scores

    _make("score", write_scores, folder, experiment)


@app.command()
def significance(
    folder: Folder,
    experiment: str,
    workers: Annotated[int, typer.Option(min=1, help="tasks that are tested side by side")] = 1,
) -> None:
    """Test the differences between an experiment's methods, into SUITE/significance/EXPERIMENT.json."""
    from theseus_bench.evaluation.significance import write_significance

    _make("significance", write_significance, folder, experiment, workers)


@app.command()
def score_tables(folder: Folder, experiment: str) -> None:
    """Make the tables of an experiment's scores and tests in SUITE/tables."""
    from theseus_bench.tables.experiment import write_score_tables

    _make("score_tables", write_score_tables, folder, experiment)


@app.command()
def verdict_tables(folder: Folder, experiment: str) -> None:
    """Put an experiment's numbers beside the published ones, with a verdict on each, in SUITE/tables."""
    from theseus_bench.tables.experiment import write_verdict_tables

    _make("verdict_tables", write_verdict_tables, folder, experiment)


@app.command()
def search_tables(folder: Folder, experiment: str) -> None:
    """Make the tables of an experiment's searches in SUITE/tables: what was chosen, and all that was tried."""
    from theseus_bench.tables.experiment import write_search_tables

    _make("search_tables", write_search_tables, folder, experiment)


@app.command()
def description_tables(folder: Folder, experiment: str) -> None:
    """Make the tables of an experiment beyond its scores: loyalty, calibration, agreement, costs, AX by category."""
    from theseus_bench.tables.experiment import write_description_tables

    _make("description_tables", write_description_tables, folder, experiment)


@app.command()
def experiment_figures(folder: Folder, experiment: str) -> None:
    """Draw the figures of an experiment into SUITE/figures/EXPERIMENT: SVG, PDF and PNG."""
    from theseus_bench.figures.experiment import write_experiment_figures

    _make("experiment_figures", write_experiment_figures, folder, experiment)


@app.command()
def report(
    folder: Folder,
    partial: Annotated[
        bool, typer.Option(help="into SUITE/partial, with scores, tables and figures of its own from whatever is there")
    ] = False,
) -> None:
    """Make SUITE/report (index.html, report.md, report.pdf) from all that is there; gaps are shown as gaps."""
    from theseus_bench.checksums import sign
    from theseus_bench.suite.load import read_plan
    from theseus_bench.suite.outputs import PARTIAL, REPORT_FILES, REPORT_LIST

    suite_plan = read_plan(folder)
    if not partial:
        from theseus_bench.report.build import write_suite_report

        write_suite_report(suite_plan, folder)
        sign([folder / name for name in REPORT_FILES], folder / REPORT_LIST)
        print(f"report: {folder / 'report' / 'index.html'}")
        return
    from theseus_bench.rebuild import write_partial  # here: it draws too, and so imports twice as much

    if write_partial(suite_plan, folder):
        page = folder / PARTIAL / "report" / "index.html"
        print(f"a report of what is there: {page}; the same snakemake command goes on with the rest")
    else:
        print(f"{folder}: no run has left anything yet; the same snakemake command goes on")


@app.command()
def ro_crate(folder: Folder) -> None:
    """Describe where SUITE's results come from, in SUITE/ro-crate-metadata.json: a Provenance Run RO-Crate."""
    from theseus_bench.checksums import sign
    from theseus_bench.report.ro_crate import write_ro_crate
    from theseus_bench.suite.load import read_plan
    from theseus_bench.suite.outputs import CRATE_FILE, CRATE_LIST

    write_ro_crate(read_plan(folder), folder)
    sign([folder / CRATE_FILE], folder / CRATE_LIST)


@app.command()
def status(
    folder: Folder,
    strict: Annotated[bool, typer.Option(help="exit 1 unless all is there and sound; list runs that wait too")] = False,
    watch: Annotated[bool, typer.Option(help="draw it again as it changes, until nothing is left or Ctrl-C")] = False,
) -> None:
    """Draw which runs of a suite are done, failed, running, missing or waiting; say why, and what else is unsound."""
    from theseus_bench.suite.status_listing import print_status, watch_status

    if watch and strict:
        raise UserError("status: --strict judges what is there now, and --watch waits for it: give one of them")
    if watch:
        watch_status(folder)
    elif not print_status(folder, strict) and strict:
        raise typer.Exit(1)


@app.command()
def trace(
    folder: Folder,
    experiment: str,
    row: Annotated[str, typer.Argument(help="METHOD or METHOD@VARIANT, as the table of scores has them")],
    column: Annotated[str, typer.Argument(help="a task, macro or macro_without_cola")],
) -> None:
    """Say which runs a number of SUITE/tables/EXPERIMENT.csv is made of: their scores, settings and checksums."""
    from theseus_bench.evaluation.trace import trace_cell
    from theseus_bench.suite.load import read_plan

    print(*trace_cell(read_plan(folder), experiment, row, column, folder), sep="\n")


@app.command()
def diff(before: Folder, after: Folder) -> None:
    """Say in what two suites, or two versions of one, differ: configuration, runs, scores; exit 1 if they do."""
    from theseus_bench.evaluation.suite_diff import compare_suites

    lines = compare_suites(before, after)
    print(*lines, sep="\n")
    if len(lines) > 1:
        raise typer.Exit(1)


@app.command()
def rerun(folder: Folder, method: str, task: str, seed: Seed) -> None:
    """Train a run once more, beside the suite, and say whether its predictions are the same; exit 1 if not."""
    from theseus_bench.suite.load import read_plan
    from theseus_bench.training.progress import show_progress
    from theseus_bench.training.rerun import rerun

    suite_plan = read_plan(folder)
    with show_progress(f"{method} on {task}, seed {seed}, once more"):
        is_identical, lines = rerun(suite_plan, suite_plan.run(method, task, seed), folder)
    print(*lines, sep="\n")
    if not is_identical:
        raise typer.Exit(1)


@app.command()
def new_method(
    name: str,
    command: Annotated[bool, typer.Option("--command", help="a program of its own, in whatever language")] = False,
) -> None:
    """Copy methods/_template (or methods/_command) to methods/NAME, ready to be filled in."""
    from theseus_bench.suite.method_spec import create_method

    folder, program = create_method(name, command), "train.py" if command else "method.py"
    print(f"{folder}: now edit method.yaml and {program}, then: theseus-bench check-method {name}")


@app.command()
def check_method(name: str, debug: Debug = False) -> None:
    """Run the conformance tests on methods/NAME."""
    from theseus_bench.training.conformance import check

    problems = []
    for title, problem in check(Path("methods") / name, debug):
        print(f"{'FAILED' if problem else 'ok':6} {title}{': ' + problem if problem else ''}")
        problems.append(problem)
    if problems[0]:
        print("without sound metadata no other check is made")
    print(f"{problems.count('')} of {len(problems)} checks passed")
    if any(problems):
        raise typer.Exit(1)


# The first word that is not ours begins the command; what follows is the command's own, a "--" too.
@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
)
def with_preload(context: typer.Context) -> None:
    """Run a command whose calls of theseus-bench share one preloaded process: theseus-bench with-preload snakemake …"""
    if not context.args:
        example = "theseus-bench with-preload snakemake --cores all"
        raise UserError(f"with-preload: name the command to run, such as: {example}")
    raise typer.Exit(preload.run_with_preload(context.args, run))


def _make(step: str, write: Callable[..., None], folder: Path, experiment: str, *options: int) -> None:
    """Have `write` make what a step makes of an experiment, and sign it."""
    from theseus_bench.suite.load import read_plan
    from theseus_bench.suite.outputs import sign_step

    write(read_plan(folder, experiment), experiment, folder, *options)
    sign_step(step, experiment, folder)


def _read(configs: list[str], pairs: list[str]) -> dict:
    """The configuration in files, with KEY=VALUE pairs over them."""
    from theseus_bench.strict_yaml import lay_over, read_config, read_overrides

    files, pairs = _split_pairs(configs, pairs)
    return lay_over(read_config(*map(Path, files)), read_overrides(pairs))


def _split_pairs(words: list[str], pairs: list[str]) -> tuple[list[str], list[str]]:
    """The words that are no KEY=VALUE, and all pairs: snakemake's --config takes several after one flag."""
    more = [word for word in words if word.partition("=")[0].isidentifier() and "=" in word] if pairs else []
    return [word for word in words if word not in more], [*pairs, *more]


COMMAND = typer.main.get_command(app)  # made here, once: the children of a fork server share it


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code (GO_ON for a training that had to stop).

    What the user can mend is one line on standard error.
    """
    try:
        COMMAND(arguments, prog_name="theseus-bench")
    except (UserError, OSError) as error:
        print(f"theseus-bench: {message_of(error)}", file=sys.stderr)
        return 1
    except Stopped as stop:
        print(f"theseus-bench: {stop}", file=sys.stderr)
        return GO_ON
    except SystemExit as end:  # how typer ends, well or with a mistake in the arguments already shown
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def print_faults(faults: dict[str, str]) -> None:
    """A line for each method that is not valid; the suite does not name it, or it would not have been loaded."""
    for fault in faults.values():
        print(f"theseus-bench: left out: {fault}", file=sys.stderr)


@contextmanager
def print_cause(debug: bool) -> Iterator[None]:
    """With `debug`, print the traceback of what led to a UserError, which the user sees in one line."""
    try:
        yield
    except UserError as error:
        if debug and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        raise
