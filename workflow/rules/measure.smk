# Size and speed of the compressed models.


# All cores, so that nothing runs beside it. One record of each method tells the shape of its models.
rule speed:
    input:
        ancient(inputs_of_speed),  # only shapes count, which a new record of the same settings does not change
    output:
        f"{SUITE}/speed/{{experiment}}.json",
    log:
        f"{SUITE}/logs/speed/{{experiment}}.log",
    priority: 1  # why: compare.smk
    threads: workflow.cores
    params:
        suite=suite_folder,
        speed=PLAN.suite.speed.model_dump_json(),
        device=PLAN.suite.device,
    shell:
        "OMP_NUM_THREADS={threads} theseus-bench speed {params.suite} {wildcards.experiment} > {log} 2>&1"
