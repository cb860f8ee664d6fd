"""Order, fan-out and where copies go: notebooks as stages, stages as an experiment, an experiment as a report."""
