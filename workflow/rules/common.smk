# What the rules ask of the plan: which files a job reads, by its wildcards.
SUITE = PLAN.folder
EXPERIMENTS = list(PLAN.suite.experiments)
TEACHERS = [PLAN.teacher.name, f"{PLAN.teacher.name}@equal"]  # whose models students read
RECORD = ("run.json", "predictions.parquet")
KEPT = {"train", "train_teacher", "compact"}  # rules whose outputs a job may keep (theseus_bench.suite.run_files)
FORMATS = ["html", "csv", "md", "tex"]
PUBLISHED = sorted(map(str, PUBLISHED_FOLDER.glob("*.yaml")))
DIAGNOSTIC = [str(Path(PLAN.suite.data.diagnostic).expanduser())] if PLAN.suite.data.diagnostic else []
NOT_ENCODED = {
    "label",
    "metrics",
    "macro",
    "server",
    "server_labels",
    "trained_on",
}  # of a task: its tokens are the same


def suite_folder(wildcards):
    """The folder that every command is given."""
    return SUITE


def files_of_backbone():
    """The user's own checkpoint, where the backbone is a folder."""
    folder = Path(PLAN.suite.backbone.name or "").expanduser()
    return sorted(map(str, folder.glob("*.safetensors"))) if PLAN.suite.backbone.source == "folder" else []


def tables_of(task):
    """A task's tables: the user's own files, or the folder that `fetch` makes."""
    return source_files(PLAN, task) if PLAN.suite.data.source == "local" else [f"{SUITE}/source/{task}"]


@cache
def done():
    """The runs of the suite that need no job, where records are trusted."""
    if not PLAN.suite.trust_records:
        return set()
    planned = to_train(PLAN, PLAN.runs.values(), Path(SUITE))
    if planned:
        or_end(check_data, PLAN)
    return PLAN.runs.keys() - {run.path for run in planned}


def text_of_recipe(compact):
    """The unlabelled text from which a compact checkpoint is distilled: the training sentences of all tasks."""
    return [f"{SUITE}/data/{task}" for task in PLAN.trained_tasks] if compact.source == "recipe" else []


def run_of(wildcards):
    return PLAN.run(wildcards.run, wildcards.task, int(wildcards.seed))


def inputs_of_run(run):
    """What a run reads, by what its method needs; nothing where its record is trusted."""
    if run.path in done():
        return []
    needed = {
        "teacher_outputs": f"{SUITE}/{PLAN.teacher_outputs_of(run)}",
        "teacher_model": f"{SUITE}/{PLAN.teacher_of(run).path}/model",
        "compact_checkpoint": f"{SUITE}/compact/{run.spec.name}",
    }
    method = METHODS_FOLDER / run.spec.name
    return (
        [f"{SUITE}/data/{name}" for name in PLAN.predicted_with(run.task.name)]
        + [f"{SUITE}/backbone", str(method / "method.py")]
        + [needed[need] for need in sorted(run.needs)]
        + ([f"{SUITE}/{PLAN.source_of(run).path}/run.json"] if run.spec.source else [])
        + ([f"{SUITE}/{run.search_file}"] if run.trials else [])
    )


def inputs_of_search(wildcards):
    """What is chosen from: the records and predictions of a search's trials."""
    run = PLAN.run(wildcards.run, wildcards.task, PLAN.suite.seeds[0])
    return [f"{SUITE}/{trial.path}/{file}" for trial in PLAN.trials_of(run) for file in RECORD]


def searches_of(experiment):
    """The files of an experiment's searches."""
    runs = PLAN.experiment_runs(experiment)
    return list(dict.fromkeys(f"{SUITE}/{run.search_file}" for run in runs if run.trials))


def records_of(experiment):
    """What an experiment's runs leave."""
    return [f"{SUITE}/{run.path}/{file}" for run in PLAN.experiment_runs(experiment) for file in RECORD]


def predecessors_of(experiment):
    """The records of the predecessors that an experiment's models are compared with, where the suite has them."""
    runs = [PLAN.teacher_of(run) for run in PLAN.experiment_runs(experiment)]
    runs = [run for run in runs if run.path in PLAN.runs]
    return list(dict.fromkeys(f"{SUITE}/{run.path}/{file}" for run in runs for file in RECORD))


def compared_before(experiment):
    """What the experiments before this one compare: all but their titles and the files for the server."""
    names = EXPERIMENTS[: EXPERIMENTS.index(experiment)]
    return {name: PLAN.suite.experiments[name].model_dump_json(exclude={"title", "submission"}) for name in names}


def or_end(function, *arguments):
    """What the function returns; its UserError ends this process with one line."""
    try:
        return function(*arguments)
    except UserError as error:
        print(f"theseus-bench: {error}", file=sys.stderr)
        sys.exit(1)


UNSOUND = set()  # what Snakemake is made to make again


def made_by(rule, **wildcards):
    """The files and folders that a rule makes."""
    return [str(file.apply_wildcards(wildcards)) for file in getattr(rules, rule).output]


def made_for(experiments):
    """All that runs of experiments read and leave, with what is trained for them.

    Snakemake does not miss what a finished job has read, so each target names all that has to be there.
    """
    runs = PLAN.needed(run for name in experiments for run in PLAN.experiment_runs(name)).values()
    force_unsound(runs, experiments)
    files = [f"{SUITE}/{run.path}/{file}" for run in runs if run.path in done() for file in RECORD]
    runs = [run for run in runs if run.path not in done()]
    tasks = dict.fromkeys(task for run in runs for task in PLAN.predicted_with(run.task.name))
    files += [file for task in tasks for file in tables_of(task)]
    for run in runs:
        where = {"run": run.name, "task": run.task.name, "seed": run.seed}
        files += inputs_of_run(run) + made_by("train_teacher" if run.name in TEACHERS else "train", **where)
    return [file for file in dict.fromkeys(files) if file.startswith(f"{SUITE}/")]


def made_of(experiment, figures_only=False):
    """All that is made of an experiment's runs: scores, tests, speed, tables and figures, and what else it has."""
    wanted = PLAN.suite.experiments[experiment]
    stages = ["score", "significance", "speed", "experiment_figures"]
    if not figures_only:
        stages += ["score_tables", "description_tables"] + ["verdict_tables"] * bool(wanted.compare_with)
        stages += ["search_tables"] * PLAN.searched(experiment) + ["submissions"] * wanted.submission
    return [file for stage in stages for file in made_by(stage, experiment=experiment)]


def all_of(*experiments, figures_only=False):
    """What there is of experiments, from their tables to their figures."""
    made = [file for name in experiments for file in made_of(name, figures_only)]
    return made_for(experiments) + made


def labels_of(experiment):
    """Where the names that a table shows come from."""
    methods = dict.fromkeys(run.spec.name for run in PLAN.experiment_runs(experiment))
    return [str(METHODS_FOLDER / name / "method.yaml") for name in methods] + [str(TASKS_FILE)]


def inputs_of_speed(wildcards):
    """What speed is measured of: the backbone, and one record of each of an experiment's methods for its shape.

    Nothing where records are trusted, and it was measured.
    """
    if PLAN.suite.trust_records and Path(f"{SUITE}/speed/{wildcards.experiment}.json").is_file():
        return []
    first = {run.name: run.path for run in reversed(PLAN.experiment_runs(wildcards.experiment))}
    return [f"{SUITE}/backbone", *(f"{SUITE}/{path}/run.json" for path in first.values())]


def force_unsound(runs, experiments):
    """Have Snakemake make what is there of runs and experiments but cannot be used, as if it were missing.

    So it is also where its own notes are lost. It is called while the jobs are listed, by those of the targets that are
    asked for, and before Snakemake decides which must run.
    """
    if workflow.is_main_process:
        if not workflow.dryrun:
            or_end(check_suite, Path(SUITE))  # also before the jobs start; here, lest files vanish while we look
        if PLAN.suite.trust_records:  # a run that is done reads nothing, and did when it was trained
            settings = workflow.dag_settings
            settings.rerun_triggers = set(settings.rerun_triggers) - {RerunTrigger.INPUT}
        UNSOUND.update(f"{SUITE}/{file}" for file in unsound(PLAN, runs, experiments, Path(SUITE)))
        workflow.dag.forcefiles.update(UNSOUND)


def kept_outputs():
    """The outputs of each job that is about to run and may keep them, and of each that the user forces to run."""
    settings = workflow.dag_settings
    kept, forced = [], []
    for job in workflow.dag.needrun_jobs():
        if job.rule.name in KEPT:
            outputs = [str(file) for file in job.output]
            asked = settings.forceall or settings.forcetargets or settings.forcerun & {job.rule.name, *outputs}
            (forced if asked else kept).append(outputs)
    return [outputs for outputs in kept if UNSOUND.isdisjoint(outputs)], forced
