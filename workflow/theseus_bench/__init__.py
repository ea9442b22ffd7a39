"""The machinery of theseus-bench: a package is a stage, and data passes forward through them.

    errors, wording, locks, files, checksums, strict_yaml, preload    what everything stands on
    data          the GLUE tasks: definition, tables, batches, metrics
    suite         what is to be run, what a run left, and in which state it is
    modeling      models of transformers, and the hardware under them
    training      one run, from its inputs to its record
    evaluation    numbers from predictions and records
    tables        what stands in each table, and its formats
    figures       what each figure shows, and its files
    report        what is handed to readers
    rebuild, commands, cli    all results again; every step as a command; the command line

A package imports only those above it, and a subject keeps its file name from stage to stage (speed: evaluation/speed,
tables/speed, figures/speed). import-linter holds the first (pyproject.toml, `make lint`).
"""

__version__ = "0.1.0"
