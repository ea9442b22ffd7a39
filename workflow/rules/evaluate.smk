# From predictions and records to scores, tests and measured speed. What each reads and makes: suite/outputs.py.
#
# What tables and figures wait for comes first: when cores are free together, a job that wants several (speed,
# significance) must not lose them to a figure of one core.


rule score:
    input:
        inputs_of("score"),
    output:
        outputs_of("score"),
    log:
        f"{SUITE}/logs/score/{{experiment}}.log",
    priority: FIRST
    localrule: True
    params:
        suite=suite_folder,
    message:
        "score {wildcards.experiment}, from the records of its runs"
    shell:
        "theseus-bench score {params.suite:q} {wildcards.experiment:q} > {log:q} 2>&1"


rule significance:
    input:
        inputs_of("significance"),
    output:
        outputs_of("significance"),
    log:
        f"{SUITE}/logs/significance/{{experiment}}.log",
    priority: FIRST
    threads: lambda w: min(4, len(PLAN.experiment_tasks(PLAN.suite.experiments[w.experiment])))
    resources:
        gpu=0,
        mem_mb=mem_mb(short),
        runtime=runtime(short),
    params:
        suite=suite_folder,
        rule=lambda w: PLAN.suite.significance.model_dump_json(),
        comparisons=lambda w: PLAN.suite.experiments[w.experiment].model_dump_json(include={"control", "compare_with"}),
        earlier=lambda w: compared_before(w.experiment),  # a difference is tested in the first that has it
        roles=lambda w: [run.spec.role for run in PLAN.experiment_runs(w.experiment)],
        macro=[name for name in PLAN.trained_tasks if PLAN.tasks[name].macro],
    message:
        "significance {wildcards.experiment}, from the records of its runs"
    shell:
        "OMP_NUM_THREADS=1 theseus-bench significance {params.suite:q} {wildcards.experiment:q} --workers {threads:q}"
        " > {log:q} 2>&1"


# All cores of this machine, so that nothing runs beside it; on a cluster as many threads as a run has, and the profile
# asks for a node of its own. One record of each method tells the shape of its models.
rule speed:
    input:
        ancient(inputs_of_speed),  # only shapes count, which a new record of the same settings does not change
    output:
        outputs_of("speed"),
    log:
        f"{SUITE}/logs/speed/{{experiment}}.log",
    priority: FIRST
    threads: lambda w: workflow.cores if runs_here() else PLAN.suite.threads
    resources:
        gpu=gpu,
        mem_mb=mem_mb(needs_of_speed),
        runtime=runtime(needs_of_speed),
    params:
        suite=suite_folder,
        speed=lambda w: PLAN.suite.speed.model_dump_json(),
        device=PLAN.suite.device,
    shell:
        "OMP_NUM_THREADS={threads:q} theseus-bench speed {params.suite:q} {wildcards.experiment:q} > {log:q} 2>&1"
