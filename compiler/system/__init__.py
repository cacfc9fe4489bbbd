"""What the compiler needs of the system: files, locks, cores, budgets, progress."""
