"""Stages while they run: who may start, the process of a notebook, locks. Imports plan."""
