# Size and speed of the compressed models.


def records_of(experiment):
    """The records of an experiment's runs."""
    return [f"{SUITE}/{run.path}/run.json" for run in PLAN.experiment_runs(experiment)]


# All cores and all GPU slots, so that nothing runs beside it.
rule speed:
    input:
        records=lambda w: records_of(w.experiment),
    output:
        f"{SUITE}/speed/{{experiment}}.json",
    log:
        f"{SUITE}/logs/speed/{{experiment}}.log",
    threads: workflow.cores
    params:
        speed=PLAN.suite.speed.model_dump_json(),
    shell:
        "OMP_NUM_THREADS={threads} theseus-bench speed {SUITE} {wildcards.experiment} > {log} 2>&1"
