# One job is one run: a method (and variant) on a task with a seed. Students wait for their predecessor.
rule train:
    input:
        needs=lambda w: inputs_of_run(run_of(w)),
    output:
        record=f"{SUITE}/runs/{{run}}/{{task}}/seed-{{seed}}/run.json",
        predictions=f"{SUITE}/runs/{{run}}/{{task}}/seed-{{seed}}/predictions.parquet",
    log:
        f"{SUITE}/logs/train/{{run}}/{{task}}/seed-{{seed}}.log",
    priority: lambda w: JOBS.priority(run_of(w))
    threads: PLAN.suite.threads
    resources:
        gpu=gpu,
        gpu_slots=gpu_slots,
        mem_mb=mem_mb(needs_of_run),
        runtime=runtime(needs_of_run),
    params:
        suite=suite_folder,
        run=lambda w: run_of(w).name,
        settings=lambda w: json.dumps(run_of(w).settings, sort_keys=True),
        fingerprint=lambda w: PLAN.fingerprint(run_of(w)),
        code=lambda w: code_of(run_of(w).spec.name),
        keep=lambda w: PLAN.keeps_model(run_of(w)),
    shell:
        "OMP_NUM_THREADS={threads:q} exec theseus-bench train {params.suite:q} {params.run:q} {wildcards.task:q} {wildcards.seed:q} > {log:q} 2>&1"


# The predecessor's model is an output, since its students read it.
use rule train as train_teacher with:
    output:
        record=f"{SUITE}/runs/{{run}}/{{task}}/seed-{{seed}}/run.json",
        predictions=f"{SUITE}/runs/{{run}}/{{task}}/seed-{{seed}}/predictions.parquet",
        model=directory(f"{SUITE}/runs/{{run}}/{{task}}/seed-{{seed}}/model"),
    log:
        f"{SUITE}/logs/train/{{run}}/{{task}}/seed-{{seed}}.log",
    wildcard_constraints:
        run="|".join(TEACHERS),


ruleorder: train_teacher > train


# A searched run waits for its search: each setting on offer is tried with the search seeds, and the best is chosen.
rule select_settings:
    input:
        inputs_of_search,
    output:
        f"{SUITE}/search/{{run}}/{{task}}.json",
    log:
        f"{SUITE}/logs/select_settings/{{run}}/{{task}}.log",
    localrule: True
    params:
        suite=suite_folder,
    shell:
        "theseus-bench select-settings {params.suite:q} {wildcards.run:q} {wildcards.task:q} > {log:q} 2>&1"


rule teacher_outputs:
    input:
        model=rules.train_teacher.output.model,
        data=f"{SUITE}/data/{{task}}",
    output:
        directory(f"{SUITE}/teacher/{{run}}/{{task}}/seed-{{seed}}"),
    log:
        f"{SUITE}/logs/teacher_outputs/{{run}}/{{task}}/seed-{{seed}}.log",
    wildcard_constraints:
        run="|".join(TEACHERS),
    priority: FIRST  # students wait for it
    threads: PLAN.suite.threads
    resources:
        gpu=gpu,
        gpu_slots=gpu_slots,
        mem_mb=mem_mb(needs_of_teacher_outputs),
        runtime=runtime(needs_of_teacher_outputs),
    params:
        suite=suite_folder,
        depths=sorted({run.settings["layers"] for run in PLAN.runs.values() if "teacher_outputs" in run.needs}),
    shell:
        "OMP_NUM_THREADS={threads:q} theseus-bench teacher-outputs {params.suite:q} {wildcards.run:q} {wildcards.task:q} {wildcards.seed:q}"
        " > {log:q} 2>&1"
