"""The machinery of theseus-bench: one module per room, each importing only rooms above it.

The order of the rooms is the way of the data: errors, config, tasks, records, data, demo, models, metrics, teacher,
training, pretraining, methods, plan, runs, speed, scores, tables, report, cli.
"""

__version__ = "0.1.0"
