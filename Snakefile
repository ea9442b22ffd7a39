# What can be asked for. Each rule below is a verb: snakemake --cores all [--configfile config/demo.yaml] [VERB]
#
#   all       every run, table and figure, the report and the provenance of the suite (the default)
#   tables    all that is made of every experiment: tables, tests, verdicts, figures, files for the GLUE server
#   figures   the figures
#   report    the report
#   verify    all of it, and fail unless every run is complete and sound
#   NAME      one experiment of the suite, by its name in the configuration: its runs and all that is made of them
import json
import os
import shutil
import sys
from functools import cache
from pathlib import Path

from snakemake.settings.types import RerunTrigger
from snakemake.utils import min_version

from theseus_bench.data.tasks import TASKS_FILE
from theseus_bench.errors import UserError, message_of
from theseus_bench.files import write_json
from theseus_bench.locks import check_suite, hold_suite
from theseus_bench.slurm import keep_unanswered_jobs
from theseus_bench.stopping import stop_workflow_by_signal
from theseus_bench.strict_yaml import lay_over, read_config, read_overrides
from theseus_bench.suite.job_resources import SHORT, JobResources
from theseus_bench.suite.load import check_data, load_plan
from theseus_bench.suite.method_code import code_checksum
from theseus_bench.suite.method_spec import METHODS_FOLDER
from theseus_bench.suite.outputs import (
    DIAGNOSTIC,
    LABELS,
    PREDECESSORS,
    PUBLISHED,
    RECORDS,
    SEARCHES,
    SHAPES,
    SOURCES,
    STEPS,
)
from theseus_bench.suite.plan import LOOP_VERSION, source_files
from theseus_bench.suite.published import PUBLISHED_FOLDER
from theseus_bench.suite.run_files import ASIDE, set_aside
from theseus_bench.suite.status import state, to_train, unsound
from theseus_bench.wording import count_noun

min_version("9.19")


if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


# Snakemake has read the files and --config too, but takes the last of two equal keys, 1e-3 for text, and within a
# block or list of --config every number.
try:
    files = workflow.overwrite_configfiles or ["config/config.yaml"]
    overrides = read_overrides(workflow.config_settings.config_args or [])
    config.update(lay_over(read_config(*map(Path, files)), overrides))
    PLAN = load_plan(config)
except (UserError, OSError) as error:
    sys.exit(f"theseus-bench: {message_of(error)}")

if workflow.is_main_process:
    for fault in PLAN.faults.values():
        print(f"theseus-bench: left out: {fault}", file=sys.stderr)


# How many runs may be on this machine's GPUs at once, all GPUs together: a run takes the one that the fewest are on.
# A profile or the command line says another number: --resources gpu_slots=8.
if "gpu_slots" not in workflow.global_resources:
    workflow.register_resource("gpu_slots", 1)


include: "workflow/rules/common.smk"


wildcard_constraints:
    run=rf"({'|'.join(PLAN.specs)})(@[^/]+)?",
    task="|".join(PLAN.suite.tasks),
    seed=r"\d+",
    experiment="|".join(EXPERIMENTS),


localrules:
    all,
    tables,
    figures,
    report,
    verify,


# Their inputs are all that has to be there, thousands of files: a message stands for them on the terminal.
rule all:
    default_target: True
    input:
        lambda w: all_of(*EXPERIMENTS) + made_by("suite_report") + made_by("ro_crate"),
    message:
        f"all that {SUITE} should hold is there"


rule tables:
    input:
        lambda w: all_of(*EXPERIMENTS),
    message:
        f"what is made of every experiment of {SUITE} is there"


rule figures:
    input:
        lambda w: all_of(*EXPERIMENTS, figures_only=True),
    message:
        f"the figures of {SUITE} are there"


rule report:
    input:
        lambda w: all_of(*EXPERIMENTS) + made_by("suite_report"),
    message:
        f"the report of {SUITE} is there"


rule verify:
    input:
        lambda w: all_of(*EXPERIMENTS) + made_by("suite_report") + made_by("ro_crate"),
    log:
        f"{SUITE}/logs/verify.log",
    params:
        suite=suite_folder,
    message:
        f"all that {SUITE} should hold is there; whether it is sound:"
    shell:
        "theseus-bench status --strict {params.suite:q} | tee {log:q}"


include: "workflow/rules/inputs.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/present.smk"


# The commands read the suite's configuration from its folder. It is no rule's output, as an edit of it must not rerun
# everything: each rule has the part that matters to it among its params.
onstart:
    or_end(hold_suite, Path(SUITE))
    write_json(Path(SUITE) / "suite.json", config, sealed=True)
    print_cost()
    set_aside(*kept_outputs(), Path(SUITE))
    stop_workflow_by_signal(workflow.scheduler.exit_gracefully)
    # For each job that has ended snakemake 9 looks again, every second from then on, whether its limit of 100 jobs a
    # second lets another start; after some hundreds it does nothing else. The limit is there to spare a cluster's
    # queue; on one machine it is dropped, also where a profile names another.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
    else:
        keep_unanswered_jobs(workflow.scheduler._executor)


onsuccess:
    shutil.rmtree(Path(SUITE) / "partial", ignore_errors=True)
    shutil.rmtree(Path(SUITE) / ASIDE, ignore_errors=True)


# With --keep-going a failed run stops only what is computed from it; what is there is shown, with its gaps, in a place
# of its own: none of it must pass for a rule's output.
onerror:
    shell("theseus-bench report --partial {SUITE:q} || true")
