"""The comparison: a matrix of algorithms, tasks, budgets and seeds, run, measured, drawn."""
