"""Rivals that need no training: tiles chosen, or merged, by the features alone."""
