# What the rules ask of the plan: which files a job reads, by its wildcards.
SUITE = PLAN.folder
EXPERIMENTS = list(PLAN.suite.experiments)
TEACHERS = [PLAN.teacher.name, f"{PLAN.teacher.name}@equal"]  # whose models students read
RECORD = ("run.json", "predictions.parquet")
KEPT = {"train", "train_teacher", "backbone", "compact"}  # rules whose outputs a job may keep (suite/run_files.py)
PUBLISHED_FILES = sorted(map(str, PUBLISHED_FOLDER.glob("*.yaml")))
DIAGNOSTIC_FILE = [str(Path(PLAN.suite.data.diagnostic).expanduser())] if PLAN.suite.data.diagnostic else []
FIRST = 10**6  # a priority above that of any run, which is its estimated minutes
SHOWN = {  # the ending of a table that Snakemake's own report shows: its caption and its label
    "": ("scores", "scores"),
    "_speed": ("speed", "speed"),
    "_timings": ("speed", "speed"),
    "_verdicts": ("verdicts", "verdicts and claims"),
    "_claims": ("verdicts", "verdicts and claims"),
}
NOT_ENCODED = {  # of a task: its tokens are the same
    "label",
    "mean_length",
    "metrics",
    "macro",
    "server",
    "server_labels",
    "trained_on",
}


# A training on a processor takes much memory from the system and gives it back at every step, page by page. glibc asks for
# large pages only in a process that is told so as it starts: a step then takes a third less time (benchmarks/README.md).
os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")

JOBS = JobResources(PLAN, Path(SUITE))


def runs_here():
    """Whether jobs run on this machine, as far as it is asked in the process that hands them out, or in one of theirs.

    Of a cluster's nodes the machine that submits says nothing: neither how many cores they have nor whether a GPU.
    A dry run is not told where to: it is a cluster's where a number of jobs is given (--jobs), and not of cores alone.
    """
    of_cluster = workflow.dryrun and workflow.resource_settings.nodes is not None
    return not (workflow.remote_exec or workflow.non_local_exec or of_cluster)


def gpu(wildcards):
    """How many GPUs a job that computes asks a cluster for; there `device: auto` means one."""
    return int(not runs_here() and PLAN.suite.device != "cpu")


def gpu_slots(wildcards):
    """How many of the places on this machine's GPUs a job that computes takes; none where it runs elsewhere."""
    return int(runs_here() and PLAN.wants_gpu)


def at_most(limit, value):
    """The value, or what a profile names as the most of it (`resources: max_runtime: 1440`)."""
    most = workflow.global_resources.get(limit).value
    return value if most is None else min(value, most)


def mem_mb(needs):
    """The function that gives a job's memory, of what gives its needs by its wildcards; a retry has more."""
    return lambda wildcards, attempt: at_most("max_mem_mb", attempt * needs(wildcards).memory)


def runtime(needs):
    """The function that gives a job's minutes, of what gives its needs by its wildcards; a retry has more."""
    return lambda wildcards, attempt: at_most("max_runtime", attempt * needs(wildcards).minutes)


def needs_of_run(wildcards):
    return JOBS.of_run(run_of(wildcards), bool(gpu(wildcards)))


def needs_of_teacher_outputs(wildcards):
    return JOBS.of_teacher_outputs(run_of(wildcards), bool(gpu(wildcards)))


def needs_of_compact(wildcards):
    return JOBS.of_compact(wildcards.method, bool(gpu(wildcards)))


def needs_of_speed(wildcards):
    return JOBS.of_speed(wildcards.experiment, bool(gpu(wildcards)))


def short(wildcards):
    """What a job that trains nothing needs."""
    return SHORT


def suite_folder(wildcards):
    """The folder that every command is given."""
    return SUITE


def configuration(wildcards):
    """The whole configuration, from a function like all params with text of users: Snakemake expands braces in strings."""
    return json.dumps(config, sort_keys=True)


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
    return (
        [f"{SUITE}/data/{name}" for name in PLAN.predicted_with(run.task.name)]
        + [f"{SUITE}/backbone"]
        + [needed[need] for need in sorted(run.needs)]
        + ([f"{SUITE}/{PLAN.source_of(run).path}/run.json"] if run.spec.source else [])
        + ([f"{SUITE}/{run.search_file}"] if run.trials else [])
    )


@cache
def code_of(method):
    """What of a method's code counts for its results."""
    return or_end(code_checksum, METHODS_FOLDER / method)


def inputs_of_search(wildcards):
    """What is chosen from: the records and predictions of a search's trials."""
    run = PLAN.run(wildcards.run, wildcards.task, PLAN.suite.seeds[0])
    return [f"{SUITE}/{trial.path}/{file}" for trial in PLAN.trials_of(run) for file in RECORD]


@cache
def searches_of(experiment):
    """The files of an experiment's searches."""
    runs = PLAN.experiment_runs(experiment)
    return list(dict.fromkeys(f"{SUITE}/{run.search_file}" for run in runs if run.trials))


@cache
def records_of(experiment):
    """What an experiment's runs leave."""
    return [f"{SUITE}/{run.path}/{file}" for run in PLAN.experiment_runs(experiment) for file in RECORD]


@cache
def sources_of(experiment):
    """The records of all that an experiment's runs need: predecessors, trials, models of other tasks."""
    runs = PLAN.with_dependencies(PLAN.experiment_runs(experiment)).values()
    return [f"{SUITE}/{run.path}/{file}" for run in runs for file in RECORD]


@cache
def predecessors_of(experiment):
    """The records of the predecessors that an experiment's models are compared with, where the suite has them."""
    runs = [PLAN.teacher_of(run) for run in PLAN.experiment_runs(experiment)]
    runs = [run for run in runs if run.path in PLAN.runs]
    return list(dict.fromkeys(f"{SUITE}/{run.path}/{file}" for run in runs for file in RECORD))


def compared_before(experiment):
    """What the experiments before this one compare: all but their titles, the files for the server and whose curves are drawn."""
    names = EXPERIMENTS[: EXPERIMENTS.index(experiment)]
    return {
        name: PLAN.suite.experiments[name].model_dump_json(exclude={"title", "submission", "curves"}) for name in names
    }


def labels_of(experiment):
    """Where the names that a table shows come from."""
    methods = dict.fromkeys(run.spec.name for run in PLAN.experiment_runs(experiment))
    return [str(METHODS_FOLDER / name / "method.yaml") for name in methods] + [str(TASKS_FILE)]


def diagnostic_of(experiment):
    """The labels of AX and the texts that they are checked against, where the experiment's models predict it."""
    if not DIAGNOSTIC_FILE or "ax" not in PLAN.suite.tasks:
        return []
    tasks = {task.name for task in PLAN.experiment_tasks(PLAN.suite.experiments[experiment])}
    return DIAGNOSTIC_FILE + tables_of("ax") if PLAN.tasks["ax"].trained_on in tasks else []


def print_cost():
    """Say how many runs will be trained now, and how long that takes here, where it can be told."""
    if workflow.local_exec and workflow.is_main_process:
        from theseus_bench.evaluation.cost import Cost  # here: parsing does without

        jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name in ("train", "train_teacher")]
        runs = [(run_of(job.wildcards), is_forced(job)) for job in jobs]
        left = tuple(run for run, forced in runs if forced or state(PLAN, run, Path(SUITE), remember=False)[2] is None)
        if left:
            cost = Cost(PLAN, Path(SUITE), cores=workflow.cores, runs=left)
            time = "on a GPU: theseus-bench plan --gpu tells more" if PLAN.wants_gpu else cost.describe_time()
            print(f"theseus-bench: {count_noun(len(left), 'run')} of {SUITE} to train; {time}", file=sys.stderr)


def or_end(function, *arguments):
    """What the function returns; an error that the user can mend ends this process with one line."""
    try:
        return function(*arguments)
    except (UserError, OSError) as error:
        print(f"theseus-bench: {message_of(error)}", file=sys.stderr)
        sys.exit(1)


UNSOUND = set()  # what Snakemake is made to make again


def made_by(rule, **wildcards):
    """The files and folders that a rule makes."""
    return [str(file.apply_wildcards(wildcards)) for file in getattr(rules, rule).output]


def made_for(experiments):
    """All that runs of experiments read and leave, with what is trained for them.

    Snakemake does not miss what a finished job has read, so each target names all that has to be there.
    """
    runs = PLAN.with_dependencies(run for name in experiments for run in PLAN.experiment_runs(name)).values()
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
    definition = PLAN.suite.experiments[experiment]
    steps = dict.fromkeys(STEPS, not figures_only)
    steps |= dict.fromkeys(("score", "significance", "speed", "experiment_figures"), True)
    steps["verdict_tables"] &= bool(definition.compare_with)
    steps["search_tables"] &= PLAN.has_search(experiment)
    steps["submissions"] &= definition.submission
    return [file for step, applies in steps.items() if applies for file in made_by(step, experiment=experiment)]


@cache
def all_of(*experiments, figures_only=False):
    """What there is of experiments, from their tables to their figures; listed once, however many jobs wait for it."""
    results = [file for name in experiments for file in made_of(name, figures_only)]
    return made_for(experiments) + results


def shapes_of(experiment):
    """One record of each of an experiment's methods, which tells the shape of its models."""
    first = {run.name: run.path for run in reversed(PLAN.experiment_runs(experiment))}
    return [f"{SUITE}/{path}/run.json" for path in first.values()]


INPUTS = {
    RECORDS: records_of,
    PREDECESSORS: predecessors_of,
    SOURCES: sources_of,
    SHAPES: shapes_of,
    SEARCHES: searches_of,
    LABELS: labels_of,
    PUBLISHED: lambda experiment: PUBLISHED_FILES,
    DIAGNOSTIC: diagnostic_of,
}


def inputs_of(step):
    """The function that gives what a step reads of an experiment (suite/outputs.py)."""

    def inputs(wildcards):
        files = []
        for name in STEPS[step].inputs:
            pattern = f"{SUITE}/{name}".format(experiment=wildcards.experiment)
            files += INPUTS[name](wildcards.experiment) if name in INPUTS else [pattern]
        return list(dict.fromkeys(files))

    return inputs


def inputs_of_report(wildcards):
    """What the report tells of: all that is made of the experiments, and every run's record."""
    results = [file for name in EXPERIMENTS for file in made_of(name)]
    kinds = (records_of, sources_of, searches_of, labels_of, diagnostic_of)
    sources = [file for name in EXPERIMENTS for kind in kinds for file in kind(name)]
    return list(dict.fromkeys(results + sources)) + PUBLISHED_FILES


def inputs_of_speed(wildcards):
    """What speed is measured of; nothing where records are trusted, and it was measured."""
    measured = Path(f"{SUITE}/speed/{wildcards.experiment}.json").is_file()
    return [] if PLAN.suite.trust_records and measured else inputs_of("speed")(wildcards)


def outputs_of(step):
    """What a step makes of an experiment; the figures, and the tables that SHOWN names, are in Snakemake's own report too."""
    outputs = []
    for name in STEPS[step].outputs:
        file = f"{SUITE}/{name.rstrip('/')}"
        ending = name.removeprefix("tables/{experiment}").removesuffix(".html")
        if name.endswith(".html") and ending in SHOWN:
            caption, label = SHOWN[ending]
            caption = f"../../report/captions/{caption}.rst"
            where = {"category": "{experiment}", "subcategory": "Tables", "labels": {"table": label}}
            file = report(file, caption=caption, **where)
        if name.endswith("/"):
            file = directory(file)
        if name == "figures/{experiment}/":
            where = {"category": "{experiment}", "subcategory": "Figures", "labels": {"figure": "{figure}"}}
            caption = "../../report/captions/figures.rst"
            file = report(file, patterns=["{figure}.svg"], caption=caption, **where)
        outputs.append(file)
    return outputs


def force_unsound(runs, experiments):
    """Have Snakemake make what is there of runs and experiments but cannot be used, as if it were missing.

    So it is also where its own notes are lost. It is called while the jobs are listed, by those of the targets that are
    asked for, and before Snakemake decides which must run.
    """
    if workflow.is_main_process:
        if not workflow.dryrun:
            or_end(check_suite, Path(SUITE))  # also before the jobs start; here, lest files vanish while we look
            # Snakemake's own lock would outlive a snakemake that is killed; the suite's does not (hold_suite).
            workflow.persistence.lock = workflow.persistence.noop
        if PLAN.suite.trust_records:  # a run that is done reads nothing, and did when it was trained
            settings = workflow.dag_settings
            settings.rerun_triggers = set(settings.rerun_triggers) - {RerunTrigger.INPUT}
        UNSOUND.update(f"{SUITE}/{file}" for file in or_end(unsound, PLAN, runs, experiments, Path(SUITE)))
        workflow.dag.forcefiles.update(UNSOUND)
        # What is forced behind a job that must run is left out where only ancient inputs join the two (snakemake 9).
        # So it is made to be missing; but not by --summary, --dag and what else runs no job.
        if workflow.executor_plugin is not None and not (workflow.dryrun or workflow.touch):
            for file in UNSOUND:
                if file.startswith(f"{SUITE}/speed/"):
                    Path(file).unlink(missing_ok=True)


def is_forced(job):
    """Whether the user forces the job to run."""
    settings = workflow.dag_settings
    named = settings.forcerun & {job.rule.name, *map(str, job.output)}
    return bool(settings.forceall or settings.forcetargets or named)


def kept_outputs():
    """The outputs of each job that is about to run and may keep them, and of each that the user forces to run."""
    outputs_to_keep, outputs_to_renew = [], []
    for job in workflow.dag.needrun_jobs():
        if job.rule.name in KEPT:
            (outputs_to_renew if is_forced(job) else outputs_to_keep).append([str(file) for file in job.output])
    return [outputs for outputs in outputs_to_keep if UNSOUND.isdisjoint(outputs)], outputs_to_renew
