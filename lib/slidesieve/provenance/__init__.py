"""What a result depends on: parameters, files, code by its meaning, receipts. Imports nothing of ours."""
