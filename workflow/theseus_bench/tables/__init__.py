"""What stands in each table, and its four formats."""
