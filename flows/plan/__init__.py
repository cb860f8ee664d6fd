"""An experiment before it runs: stages, methods, presets, and what is checked. Imports nothing of run or report."""
