"""From graphs to programs: fusion, inlining of producers, memory."""
