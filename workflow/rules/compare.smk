# From predictions to scores, tables and the report.


rule score:
    input:
        records=lambda w: records_of(w.experiment),
    output:
        f"{SUITE}/scores/{{experiment}}.parquet",
        f"{SUITE}/scores/{{experiment}}.csv",
    log:
        f"{SUITE}/logs/score/{{experiment}}.log",
    params:
        suite=suite_folder,
    shell:
        "theseus-bench score {params.suite} {wildcards.experiment} > {log} 2>&1"


rule compare:
    input:
        scores=f"{SUITE}/scores/{{experiment}}.parquet",
        speed=f"{SUITE}/speed/{{experiment}}.json",
        labels=lambda w: labels_of(w.experiment),
    output:
        expand(
            f"{SUITE}/tables/{{{{experiment}}}}{{statistic}}.{{format}}",
            statistic=["", "_mean"],
            format=["csv", "md", "tex", "html"],
        ),
    log:
        f"{SUITE}/logs/compare/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=json.dumps(config, sort_keys=True),  # titles, samples: whatever the tables say of the suite
    shell:
        "theseus-bench compare {params.suite} {wildcards.experiment} > {log} 2>&1"


rule write_report:
    input:
        tables=expand(f"{SUITE}/tables/{{experiment}}.html", experiment=EXPERIMENTS),
        template=["report/report.html.j2", "report/style.css"],
    output:
        f"{SUITE}/report/index.html",
    log:
        f"{SUITE}/logs/report.log",
    params:
        suite=suite_folder,
        shown=json.dumps(config, sort_keys=True),
    shell:
        "theseus-bench report {params.suite} > {log} 2>&1"


# An experiment by name: its runs and its tables.
for name in EXPERIMENTS:

    rule:
        name:
            name
        input:
            f"{SUITE}/tables/{name}.html",
        localrule: True
