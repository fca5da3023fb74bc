"""Studies: many runs that answer one question, from their plan to their comparison."""
