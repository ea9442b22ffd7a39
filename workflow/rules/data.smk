# From configuration and sources to what every run reads: tables, backbone, compact checkpoints, tokens.


rule fetch:
    output:
        directory(f"{SUITE}/source/{{task}}"),
    log:
        f"{SUITE}/logs/fetch/{{task}}.log",
    params:
        data=PLAN.suite.data.model_dump_json(exclude={"samples"}),
    shell:
        "theseus-bench fetch {SUITE} {wildcards.task} {output} > {log} 2>&1"


def tables_of(task):
    """A task's tables: the user's own files, or the folder that `fetch` makes."""
    return source_files(PLAN, task) if PLAN.suite.data.source == "local" else [f"{SUITE}/source/{task}"]


rule backbone:
    output:
        directory(f"{SUITE}/backbone"),
    log:
        f"{SUITE}/logs/backbone.log",
    threads: PLAN.suite.threads
    params:
        backbone=PLAN.suite.backbone.model_dump_json(),
    shell:
        "OMP_NUM_THREADS={threads} theseus-bench backbone {SUITE} > {log} 2>&1"


def text_of_recipe(compact):
    """The unlabelled text from which a compact checkpoint is distilled: all tasks' tables."""
    return [table for task in PLAN.trained_tasks for table in tables_of(task)] if compact.source == "recipe" else []


rule compact:
    input:
        backbone=f"{SUITE}/backbone",
        text=lambda w: text_of_recipe(PLAN.suite.compact[w.method]),
    output:
        directory(f"{SUITE}/compact/{{method}}"),
    log:
        f"{SUITE}/logs/compact/{{method}}.log",
    wildcard_constraints:
        method="|".join(PLAN.suite.compact) or "none",
    threads: PLAN.suite.threads
    params:
        compact=lambda w: PLAN.suite.compact[w.method].model_dump_json(),
        layers=PLAN.suite.student_layers,
    shell:
        "OMP_NUM_THREADS={threads} theseus-bench compact {SUITE} {wildcards.method} > {log} 2>&1"


rule encode:
    input:
        backbone=f"{SUITE}/backbone",
        tables=lambda w: tables_of(w.task),
    output:
        directory(f"{SUITE}/data/{{task}}"),
    log:
        f"{SUITE}/logs/encode/{{task}}.log",
    params:
        task=lambda w: PLAN.tasks[w.task].model_dump_json(),
        sample=lambda w: w.task in PLAN.suite.data.samples,
    shell:
        "theseus-bench encode {SUITE} {wildcards.task} > {log} 2>&1"
