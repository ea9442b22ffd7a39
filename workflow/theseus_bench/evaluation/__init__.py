"""Numbers from predictions and records."""
