# From predictions to scores, tables and the report.
#
# What tables and figures wait for has priority 1: when cores are free together, a job that wants several (speed,
# significance) must not lose them to a figure of one core.


rule score:
    input:
        records=lambda w: records_of(w.experiment),
    output:
        f"{SUITE}/scores/{{experiment}}.parquet",
        f"{SUITE}/scores/{{experiment}}.csv",
        f"{SUITE}/scores/{{experiment}}_curves.csv",
    log:
        f"{SUITE}/logs/score/{{experiment}}.log",
    priority: 1
    params:
        suite=suite_folder,
    message:
        "score {wildcards.experiment}, from the records of its runs"
    shell:
        "theseus-bench score {params.suite} {wildcards.experiment} > {log} 2>&1"


rule significance:
    input:
        records=lambda w: records_of(w.experiment),
        scores=f"{SUITE}/scores/{{experiment}}.parquet",
        published=PUBLISHED,
    output:
        f"{SUITE}/significance/{{experiment}}.json",
    log:
        f"{SUITE}/logs/significance/{{experiment}}.log",
    priority: 1
    threads: lambda w: min(4, len(PLAN.experiment_tasks(PLAN.suite.experiments[w.experiment])))
    params:
        suite=suite_folder,
        rule=PLAN.suite.significance.model_dump_json(),
        comparisons=lambda w: PLAN.suite.experiments[w.experiment].model_dump_json(include={"control", "compare_with"}),
        earlier=lambda w: compared_before(w.experiment),  # a difference is tested in the first that has it
        roles=lambda w: [run.spec.role for run in PLAN.experiment_runs(w.experiment)],
        macro=[name for name in PLAN.trained_tasks if PLAN.tasks[name].macro],
    message:
        "significance {wildcards.experiment}, from the records of its runs"
    shell:
        "OMP_NUM_THREADS=1 theseus-bench significance {params.suite} {wildcards.experiment} --workers {threads}"
        " > {log} 2>&1"


rule score_tables:
    input:
        scores=f"{SUITE}/scores/{{experiment}}.parquet",
        significance=f"{SUITE}/significance/{{experiment}}.json",
        speed=f"{SUITE}/speed/{{experiment}}.json",
        labels=lambda w: labels_of(w.experiment),
        published=PUBLISHED,
    output:
        report(
            f"{SUITE}/tables/{{experiment}}.html",
            caption="../../report/captions/scores.rst",
            category="{experiment}",
            subcategory="Tables",
            labels={"table": "scores"},
        ),
        expand(f"{SUITE}/tables/{{{{experiment}}}}.{{format}}", format=FORMATS[1:]),
        expand(
            f"{SUITE}/tables/{{{{experiment}}}}_{{table}}.{{format}}",
            table=["median", "significance", "seeds", "ranks", "aggregates"],
            format=FORMATS,
        ),
        report(
            expand(f"{SUITE}/tables/{{{{experiment}}}}_{{table}}.html", table=["speed", "timings"]),
            caption="../../report/captions/speed.rst",
            category="{experiment}",
            subcategory="Tables",
            labels={"table": "speed"},
        ),
        expand(
            f"{SUITE}/tables/{{{{experiment}}}}_{{table}}.{{format}}",
            table=["speed", "timings"],
            format=FORMATS[1:],
        ),
    log:
        f"{SUITE}/logs/score_tables/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=json.dumps(config, sort_keys=True),  # titles, samples: whatever the tables say of the suite
    shell:
        "theseus-bench score-tables {params.suite} {wildcards.experiment} > {log} 2>&1"


rule verdict_tables:
    input:
        scores=f"{SUITE}/scores/{{experiment}}.parquet",
        significance=f"{SUITE}/significance/{{experiment}}.json",
        speed=f"{SUITE}/speed/{{experiment}}.json",
        labels=lambda w: labels_of(w.experiment),
        published=PUBLISHED,
    output:
        report(
            expand(f"{SUITE}/tables/{{{{experiment}}}}_{{table}}.html", table=["verdicts", "claims"]),
            caption="../../report/captions/verdicts.rst",
            category="{experiment}",
            subcategory="Tables",
            labels={"table": "verdicts and claims"},
        ),
        expand(
            f"{SUITE}/tables/{{{{experiment}}}}_{{table}}.{{format}}",
            table=["verdicts", "claims"],
            format=FORMATS[1:],
        ),
    log:
        f"{SUITE}/logs/verdict_tables/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=json.dumps(config, sort_keys=True),
    shell:
        "theseus-bench verdict-tables {params.suite} {wildcards.experiment} > {log} 2>&1"


rule search_tables:
    input:
        lambda w: searches_of(w.experiment),
        labels=lambda w: labels_of(w.experiment),
    output:
        expand(
            f"{SUITE}/tables/{{{{experiment}}}}_{{table}}.{{format}}",
            table=["search", "trials"],
            format=FORMATS,
        ),
    log:
        f"{SUITE}/logs/search_tables/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=json.dumps(config, sort_keys=True),
    shell:
        "theseus-bench search-tables {params.suite} {wildcards.experiment} > {log} 2>&1"


rule description_tables:
    input:
        records=lambda w: records_of(w.experiment),
        predecessors=lambda w: predecessors_of(w.experiment),
        searches=lambda w: searches_of(w.experiment),
        labels=lambda w: labels_of(w.experiment),
        diagnostic=DIAGNOSTIC,
    output:
        expand(
            f"{SUITE}/tables/{{{{experiment}}}}_{{table}}.{{format}}",
            table=["behaviour", "costs", "selection"],
            format=FORMATS,
        ),
    log:
        f"{SUITE}/logs/description_tables/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=json.dumps(config, sort_keys=True),
    message:
        "description_tables {wildcards.experiment}, from the records of its runs"
    shell:
        "theseus-bench description-tables {params.suite} {wildcards.experiment} > {log} 2>&1"


rule experiment_figures:
    input:
        scores=f"{SUITE}/scores/{{experiment}}.parquet",
        significance=f"{SUITE}/significance/{{experiment}}.json",
        speed=f"{SUITE}/speed/{{experiment}}.json",
        labels=lambda w: labels_of(w.experiment),
        published=PUBLISHED,
    output:
        report(
            directory(f"{SUITE}/figures/{{experiment}}"),
            patterns=["{figure}.svg"],
            caption="../../report/captions/figures.rst",
            category="{experiment}",
            subcategory="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        f"{SUITE}/logs/experiment_figures/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=json.dumps(config, sort_keys=True),
    shell:
        "theseus-bench experiment-figures {params.suite} {wildcards.experiment} > {log} 2>&1"


rule submissions:
    input:
        records=lambda w: records_of(w.experiment),
        labels=lambda w: labels_of(w.experiment),
    output:
        directory(f"{SUITE}/submissions/{{experiment}}"),
    log:
        f"{SUITE}/logs/submissions/{{experiment}}.log",
    params:
        suite=suite_folder,
    message:
        "submissions {wildcards.experiment}, from the records of its runs"
    shell:
        "theseus-bench submissions {params.suite} {wildcards.experiment} > {log} 2>&1"


rule suite_report:
    input:
        results=[file for name in EXPERIMENTS for file in made_of(name)],
        template=["report/report.html.j2", "report/style.css", "report/script.js", "report/report.typ"],
    output:
        report(
            f"{SUITE}/report/index.html",
            caption="../../report/captions/report.rst",
            category="Report",
            labels={"report": "the suite's own report"},
        ),
        f"{SUITE}/report/report.md",
        f"{SUITE}/report/report.pdf",
    log:
        f"{SUITE}/logs/report.log",
    params:
        suite=suite_folder,
        shown=json.dumps(config, sort_keys=True),
    shell:
        "theseus-bench report {params.suite} > {log} 2>&1"


# The suite's folder becomes an RO-Crate: last, since it has the checksums of all the others.
rule ro_crate:
    input:
        f"{SUITE}/report/index.html",
        workflow=[workflow.main_snakefile, *sorted(map(str, Path("workflow/rules").glob("*.smk")))],
    output:
        f"{SUITE}/ro-crate-metadata.json",
    log:
        f"{SUITE}/logs/ro_crate.log",
    params:
        suite=suite_folder,
        configuration=json.dumps(config, sort_keys=True),
    shell:
        "theseus-bench ro-crate {params.suite} > {log} 2>&1"


# An experiment by name: its runs and all that is made of them.
for name in EXPERIMENTS:

    rule:
        name:
            name
        input:
            lambda w, experiment=name: all_of(experiment),
        localrule: True
        message:
            f"what is made of experiment {name} is there"
