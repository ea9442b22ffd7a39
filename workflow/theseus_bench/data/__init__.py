"""The GLUE tasks: definition, tables, batches and metrics."""
