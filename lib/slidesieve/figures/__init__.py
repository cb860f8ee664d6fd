"""Figures that draw tables and compute nothing; one file an analysis, named like it."""
