# What the rules ask of the plan: which files a job reads, by its wildcards.
SUITE = PLAN.folder
EXPERIMENTS = list(PLAN.suite.experiments)
TEACHER = PLAN.teacher.name


def suite_folder(wildcards):
    """The folder that every command is given."""
    return SUITE


def tables_of(task):
    """A task's tables: the user's own files, or the folder that `fetch` makes."""
    return source_files(PLAN, task) if PLAN.suite.data.source == "local" else [f"{SUITE}/source/{task}"]


def text_of_recipe(compact):
    """The unlabelled text from which a compact checkpoint is distilled: the training sentences of all tasks."""
    return [f"{SUITE}/data/{task}" for task in PLAN.trained_tasks] if compact.source == "recipe" else []


def run_of(wildcards):
    return PLAN.run(wildcards.get("run", TEACHER), wildcards.task, int(wildcards.seed))


def inputs_of_run(wildcards):
    """What a run reads, by what its method needs."""
    run = run_of(wildcards)
    seed = f"{run.task.name}/seed-{run.seed}"
    needed = {
        "teacher_outputs": f"{SUITE}/teacher/{seed}",
        "teacher_model": f"{SUITE}/runs/{TEACHER}/{seed}/model",
        "compact_checkpoint": f"{SUITE}/compact/{run.spec.name}",
    }
    method = METHODS_FOLDER / run.spec.name
    return (
        [f"{SUITE}/data/{name}" for name in PLAN.predicted_with(run.task.name)]
        + [f"{SUITE}/backbone", str(method / "method.py")]
        + [needed[need] for need in sorted(run.needs)]
    )


def records_of(experiment):
    """The records of an experiment's runs."""
    return [f"{SUITE}/{run.path}/run.json" for run in PLAN.experiment_runs(experiment)]
