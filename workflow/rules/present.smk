# From scores and tests to tables, figures and the report. What each reads and makes: suite/outputs.py. All of it takes
# seconds, less than a cluster's queue, so it is made where snakemake runs.


localrules:
    score_tables,
    verdict_tables,
    search_tables,
    description_tables,
    experiment_figures,
    submissions,
    suite_report,
    ro_crate,


rule score_tables:
    input:
        inputs_of("score_tables"),
    output:
        outputs_of("score_tables"),
    log:
        f"{SUITE}/logs/score_tables/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=configuration,  # titles, samples: whatever the tables say of the suite
    shell:
        "theseus-bench score-tables {params.suite:q} {wildcards.experiment:q} > {log:q} 2>&1"


rule verdict_tables:
    input:
        inputs_of("verdict_tables"),
    output:
        outputs_of("verdict_tables"),
    log:
        f"{SUITE}/logs/verdict_tables/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=configuration,
    shell:
        "theseus-bench verdict-tables {params.suite:q} {wildcards.experiment:q} > {log:q} 2>&1"


rule search_tables:
    input:
        inputs_of("search_tables"),
    output:
        outputs_of("search_tables"),
    log:
        f"{SUITE}/logs/search_tables/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=configuration,
    shell:
        "theseus-bench search-tables {params.suite:q} {wildcards.experiment:q} > {log:q} 2>&1"


rule description_tables:
    input:
        inputs_of("description_tables"),
    output:
        outputs_of("description_tables"),
    log:
        f"{SUITE}/logs/description_tables/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=configuration,
    message:
        "description_tables {wildcards.experiment}, from the records of its runs"
    shell:
        "theseus-bench description-tables {params.suite:q} {wildcards.experiment:q} > {log:q} 2>&1"


rule experiment_figures:
    input:
        inputs_of("experiment_figures"),
    output:
        outputs_of("experiment_figures"),
    log:
        f"{SUITE}/logs/experiment_figures/{{experiment}}.log",
    params:
        suite=suite_folder,
        shown=configuration,
    shell:
        "theseus-bench experiment-figures {params.suite:q} {wildcards.experiment:q} > {log:q} 2>&1"


rule submissions:
    input:
        inputs_of("submissions"),
    output:
        outputs_of("submissions"),
    log:
        f"{SUITE}/logs/submissions/{{experiment}}.log",
    params:
        suite=suite_folder,
    message:
        "submissions {wildcards.experiment}, from the records of its runs"
    shell:
        "theseus-bench submissions {params.suite:q} {wildcards.experiment:q} > {log:q} 2>&1"


rule suite_report:
    input:
        results=inputs_of_report,
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
        shown=configuration,
    shell:
        "theseus-bench report {params.suite:q} > {log:q} 2>&1"


# The suite's folder becomes an RO-Crate: last, since it has the checksums of all the others.
rule ro_crate:
    input:
        f"{SUITE}/report/index.html",
        results=lambda w: all_of(*EXPERIMENTS),
        workflow=[workflow.main_snakefile, *sorted(map(str, Path("workflow/rules").glob("*.smk")))],
    output:
        f"{SUITE}/ro-crate-metadata.json",
    log:
        f"{SUITE}/logs/ro_crate.log",
    params:
        suite=suite_folder,
        configuration=configuration,
    shell:
        "theseus-bench ro-crate {params.suite:q} > {log:q} 2>&1"


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
