# From predictions to scores, tables and the report.


rule score:
    input:
        records=lambda w: records_of(w.experiment),
    output:
        f"{SUITE}/scores/{{experiment}}.parquet",
        f"{SUITE}/scores/{{experiment}}.csv",
        f"{SUITE}/scores/{{experiment}}_curves.csv",
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


rule judge:
    input:
        scores=f"{SUITE}/scores/{{experiment}}.parquet",
        speed=f"{SUITE}/speed/{{experiment}}.json",
        labels=lambda w: labels_of(w.experiment),
        published=sorted(map(str, PUBLISHED_FOLDER.glob("*.yaml"))),
    output:
        expand(
            f"{SUITE}/tables/{{{{experiment}}}}_{{table}}.{{format}}",
            table=["verdicts", "claims"],
            format=["csv", "md", "tex", "html"],
        ),
    log:
        f"{SUITE}/logs/judge/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=json.dumps(config, sort_keys=True),
    shell:
        "theseus-bench judge {params.suite} {wildcards.experiment} > {log} 2>&1"


rule searched:
    input:
        lambda w: searches_of(w.experiment),
        labels=lambda w: labels_of(w.experiment),
    output:
        expand(
            f"{SUITE}/tables/{{{{experiment}}}}_{{table}}.{{format}}",
            table=["search", "trials"],
            format=["csv", "md", "tex", "html"],
        ),
    log:
        f"{SUITE}/logs/searched/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=json.dumps(config, sort_keys=True),
    shell:
        "theseus-bench searched {params.suite} {wildcards.experiment} > {log} 2>&1"


rule submit:
    input:
        records=lambda w: records_of(w.experiment),
        labels=lambda w: labels_of(w.experiment),
    output:
        directory(f"{SUITE}/submissions/{{experiment}}"),
    log:
        f"{SUITE}/logs/submit/{{experiment}}.log",
    params:
        suite=suite_folder,
    shell:
        "theseus-bench submission {params.suite} {wildcards.experiment} > {log} 2>&1"


rule write_report:
    input:
        results=[file for name in EXPERIMENTS for file in results_of(name)],
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


# An experiment by name: its runs and all that is made of them.
for name in EXPERIMENTS:

    rule:
        name:
            name
        input:
            results_of(name),
        localrule: True
