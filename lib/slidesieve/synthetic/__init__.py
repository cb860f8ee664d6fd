"""The toy cohort, drawn from nothing. Nothing of ours imports it."""
