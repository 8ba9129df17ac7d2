"""Many runs: their records, comparisons, sweeps over budgets, and a page of results beside the papers' numbers."""
