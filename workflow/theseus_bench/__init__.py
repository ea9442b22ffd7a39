"""The machinery of theseus-bench: one module per subject, in the order in which the data passes through them.

ROOMS lists them; a module imports only modules that stand before it.
"""

__version__ = "0.1.0"

ROOMS = [
    "errors",  # the one exception that a user is meant to read
    "config",  # what to run, typed and strict
    "naming",  # how a run is named
    "tasks",  # GLUE's tasks
    "published",  # what the papers print
    "locks",  # one writer at a time
    "records",  # what a run leaves on disk
    "data",  # tables → checked → tokens → batches
    "demo",  # generated sentences
    "gpus",  # which GPU a run takes
    "devices",  # device, precision, threads, seeds
    "flops",  # operations that a run computes
    "compiled",  # transformer layers compiled, for a GPU
    "dropout",  # torch's, faster on a CPU
    "models",  # backbones
    "metrics",  # GLUE's metrics
    "metrics.glue",  # the same, as a module of evaluate
    "teacher",  # a predecessor's stored outputs
    "training",  # the one loop
    "pretraining",  # the demo's backbone, and compact checkpoints
    "distillation",  # objectives from TextBrewer
    "methods",
    "methods.spec",  # a method's metadata
    "methods.contract",  # what method.py defines
    "search",  # which settings are tried
    "plan",  # every run that a configuration asks for
    "status",  # what is complete, failed or missing, and why
    "run_files",  # what a run was made of, and whether it is to be kept
    "suites",  # a suite from its configuration, checked
    "source",  # tables, backbone and compact checkpoints, put in their places
    "cards",  # what a saved model says of itself
    "runs",  # one run from start to record
    "authoring",  # a new method from the template
    "conformance",  # the tests that every method must pass
    "scores",  # predictions → tidy scores
    "choice",  # which settings a search chooses
    "submission",  # predictions → files for the GLUE server
    "speed",  # size and speed of the compressed models
    "resampling",  # scores on resampled examples
    "inference",  # tests, intervals and effect sizes on arrays
    "counterparts",  # which of our runs the papers' numbers and claims are about
    "pairs",  # which methods are compared with which
    "significance",  # which differences are more than chance
    "latex",  # text as pdflatex takes it
    "table_formats",  # one table model → CSV, Markdown, LaTeX, HTML
    "tables",  # what stands in the tables
    "behaviour",  # loyalty, calibration, agreement between seeds
    "diagnostic",  # AX by category
    "costs",  # what the runs cost
    "selection",  # what choosing a checkpoint on dev adds
    "verdicts",  # reproduced or not
    "claims",  # holds or not
    "significance_tables",  # the tests, as tables
    "speed_tables",  # size and speed, as tables
    "searches",  # what was tried and chosen
    "figure_style",  # how every figure looks: type, colours, markers, panels
    "captions",  # what a figure's caption says of its data
    "pictures",  # a picture and its files
    "figures",  # what the figures show
    "speed_figures",  # what the figures show of speed
    "checklist",  # what ACL and NeurIPS ask, filled from the records
    "crate_graph",  # an RO-Crate that grows
    "crate",  # where a suite's results come from
    "report_model",  # what a report says
    "findings",  # the answers on its first screen
    "report_markdown",  # a report as Markdown
    "report_pdf",  # a report as PDF
    "report",  # a report as a page, and in all formats
    "comparison",  # scores, tests and records → the tables of an experiment
    "drawing",  # … → its figures
    "document",  # … → the report of a suite
    "warm",  # a preloaded parent for many short commands
    "commands",  # every step as a command
    "cli",  # the command line, handed to a warm parent where there is one
]
