"""What an experiment leaves to read: pages of notebooks and the index of a report. Imports run and plan."""
