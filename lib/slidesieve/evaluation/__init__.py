"""Scores with intervals, floors, paired differences, and the papers' own numbers. Imports answers and below."""
