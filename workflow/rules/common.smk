# What the rules ask of the plan: which files a job reads, by its wildcards.
SUITE = PLAN.folder
EXPERIMENTS = list(PLAN.suite.experiments)
TEACHERS = [PLAN.teacher.name, f"{PLAN.teacher.name}@equal"]  # whose models students read
RECORD = ("run.json", "predictions.parquet")
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


def text_of_recipe(compact):
    """The unlabelled text from which a compact checkpoint is distilled: the training sentences of all tasks."""
    return [f"{SUITE}/data/{task}" for task in PLAN.trained_tasks] if compact.source == "recipe" else []


def run_of(wildcards):
    return PLAN.run(wildcards.run, wildcards.task, int(wildcards.seed))


def inputs_of_run(wildcards):
    """What a run reads, by what its method needs."""
    run = run_of(wildcards)
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


def results_of(experiment):
    """What is made of an experiment: tables and figures and, where it has them, verdicts, searches and submissions."""
    wanted = PLAN.suite.experiments[experiment]
    tables = ["", "_behaviour"]
    tables += ["_verdicts"] * bool(wanted.compare_with) + ["_search"] * PLAN.searched(experiment)
    others = [f"{SUITE}/figures/{experiment}"] + [f"{SUITE}/submissions/{experiment}"] * wanted.submission
    return [f"{SUITE}/tables/{experiment}{ending}.html" for ending in tables] + others


def labels_of(experiment):
    """Where the names that a table shows come from."""
    methods = dict.fromkeys(run.spec.name for run in PLAN.experiment_runs(experiment))
    return [str(METHODS_FOLDER / name / "method.yaml") for name in methods] + [str(TASKS_FILE)]


def first_records_of(experiment):
    """One record of each of an experiment's methods."""
    first = {run.name: run.path for run in reversed(PLAN.experiment_runs(experiment))}
    return [f"{SUITE}/{path}/run.json" for path in first.values()]
