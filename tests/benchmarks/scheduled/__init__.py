"""An app of two scheduled no-ops, for the benchmark of schedules alone."""
