# From predictions and records to scores, tests and measured speed. What each reads and makes: suite/outputs.py.
#
# What tables and figures wait for has priority 1: when cores are free together, a job that wants several (speed,
# significance) must not lose them to a figure of one core.


rule score:
    input:
        inputs_of("score"),
    output:
        outputs_of("score"),
    log:
        f"{SUITE}/logs/score/{{experiment}}.log",
    priority: 1
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
    priority: 1
    threads: lambda w: min(4, len(PLAN.experiment_tasks(PLAN.suite.experiments[w.experiment])))
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


# All cores, so that nothing runs beside it. One record of each method tells the shape of its models.
rule speed:
    input:
        ancient(inputs_of_speed),  # only shapes count, which a new record of the same settings does not change
    output:
        outputs_of("speed"),
    log:
        f"{SUITE}/logs/speed/{{experiment}}.log",
    priority: 1
    threads: workflow.cores
    params:
        suite=suite_folder,
        speed=lambda w: PLAN.suite.speed.model_dump_json(),
        device=PLAN.suite.device,
    shell:
        "OMP_NUM_THREADS={threads:q} theseus-bench speed {params.suite:q} {wildcards.experiment:q} > {log:q} 2>&1"
