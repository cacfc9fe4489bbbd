"""Where a run's time goes, and what the machine could do."""
