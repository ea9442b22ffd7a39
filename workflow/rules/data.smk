# From configuration and sources to what every run reads: suite.json, tables, backbone, compact checkpoints, tokens.


# The whole configuration, as the commands read it. Others take it as ancient(): a changed setting reruns the runs whose
# params it changes, not all of them.
rule configure:
    output:
        f"{SUITE}/suite.json",
    params:
        config=json.dumps(config, sort_keys=True),
    shell:
        "theseus-bench configure {SUITE} --config {params.config:q}"


rule fetch:
    input:
        ancient(rules.configure.output),
    output:
        directory(f"{SUITE}/source/{{task}}"),
    params:
        data=PLAN.suite.data.model_dump_json(exclude={"samples"}),
    log:
        f"{SUITE}/logs/fetch/{{task}}.log",
    shell:
        "theseus-bench fetch {SUITE} {wildcards.task} {output} > {log} 2>&1"


def tables_of(task):
    """A task's tables: the user's own files, or the folder that `fetch` makes."""
    return source_files(PLAN, task) if PLAN.suite.data.source == "local" else [f"{SUITE}/source/{task}"]


TEXT = [table for task in PLAN.trained_tasks for table in tables_of(task)]  # the unlabelled text of a recipe


rule backbone:
    input:
        ancient(rules.configure.output),
        text=TEXT if PLAN.suite.backbone.source == "demo" else [],
    output:
        directory(f"{SUITE}/backbone"),
    params:
        backbone=PLAN.suite.backbone.model_dump_json(),
    log:
        f"{SUITE}/logs/backbone.log",
    threads: PLAN.suite.threads
    shell:
        "OMP_NUM_THREADS={threads} theseus-bench backbone {SUITE} > {log} 2>&1"


rule compact:
    input:
        ancient(rules.configure.output),
        backbone=f"{SUITE}/backbone",
        text=lambda w: TEXT if PLAN.suite.compact[w.method].source == "recipe" else [],
    output:
        directory(f"{SUITE}/compact/{{method}}"),
    params:
        compact=lambda w: PLAN.suite.compact[w.method].model_dump_json(),
        layers=PLAN.suite.student_layers,
    log:
        f"{SUITE}/logs/compact/{{method}}.log",
    wildcard_constraints:
        method="|".join(PLAN.suite.compact) or "none",
    threads: PLAN.suite.threads
    shell:
        "OMP_NUM_THREADS={threads} theseus-bench compact {SUITE} {wildcards.method} > {log} 2>&1"


rule encode:
    input:
        ancient(rules.configure.output),
        backbone=f"{SUITE}/backbone",
        tables=lambda w: tables_of(w.task),
    output:
        directory(f"{SUITE}/data/{{task}}"),
    params:
        task=lambda w: PLAN.tasks[w.task].model_dump_json(),
        sample=lambda w: w.task in PLAN.suite.data.samples,
    log:
        f"{SUITE}/logs/encode/{{task}}.log",
    shell:
        "theseus-bench encode {SUITE} {wildcards.task} > {log} 2>&1"
