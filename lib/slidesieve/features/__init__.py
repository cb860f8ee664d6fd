"""Tiles -> features -> bags: encoders, feature files, bags, batches. Imports slides and below."""
