# From configuration and sources to what every run reads: tables, backbone, compact checkpoints, tokens.


rule fetch:
    output:
        directory(f"{SUITE}/source/{{task}}"),
    log:
        f"{SUITE}/logs/fetch/{{task}}.log",
    localrule: True
    params:
        suite=suite_folder,
        data=lambda w: PLAN.suite.data.model_dump_json(exclude={"samples", "diagnostic", "max_train"}),
    shell:
        "theseus-bench fetch {params.suite:q} {wildcards.task:q} {output:q} > {log:q} 2>&1"


rule backbone:
    input:
        files_of_backbone(),
    output:
        directory(f"{SUITE}/backbone"),
    log:
        f"{SUITE}/logs/backbone.log",
    localrule: PLAN.suite.backbone.source != "demo"  # else it is copied or fetched
    threads: PLAN.suite.threads
    resources:
        gpu=gpu,
        gpu_slots=gpu_slots,
        mem_mb=mem_mb(short),
        runtime=runtime(short),
    params:
        suite=suite_folder,
        backbone=lambda w: PLAN.suite.backbone.model_dump_json(),
        loop=LOOP_VERSION if PLAN.suite.backbone.source == "demo" else None,
    shell:
        "OMP_NUM_THREADS={threads:q} exec theseus-bench backbone {params.suite:q} > {log:q} 2>&1"


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
    localrule: all(compact.source == "hub" for compact in PLAN.suite.compact.values())
    threads: PLAN.suite.threads
    resources:
        gpu=gpu,
        gpu_slots=gpu_slots,
        mem_mb=mem_mb(needs_of_compact),
        runtime=runtime(needs_of_compact),
    params:
        suite=suite_folder,
        compact=lambda w: PLAN.suite.compact[w.method].model_dump_json(),
        layers=PLAN.suite.student_layers,
        loop=lambda w: LOOP_VERSION if PLAN.suite.compact[w.method].source == "recipe" else None,
    shell:
        "OMP_NUM_THREADS={threads:q} exec theseus-bench compact {params.suite:q} {wildcards.method:q} > {log:q} 2>&1"


rule encode:
    input:
        backbone=f"{SUITE}/backbone",
        tables=lambda w: tables_of(w.task),
    output:
        directory(f"{SUITE}/data/{{task}}"),
    log:
        f"{SUITE}/logs/encode/{{task}}.log",
    resources:
        gpu=0,
        mem_mb=mem_mb(short),
        runtime=runtime(short),
    params:
        suite=suite_folder,
        task=lambda w: PLAN.tasks[w.task].model_dump_json(exclude=NOT_ENCODED),
        sample=lambda w: w.task in PLAN.suite.data.samples,
        max_train=lambda w: PLAN.suite.data.max_train.get(w.task),
    shell:
        "theseus-bench encode {params.suite:q} {wildcards.task:q} > {log:q} 2>&1"
