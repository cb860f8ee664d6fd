"""Answers by log-likelihood, kept tiles, controls, and the tables that runs leave. Imports training and below."""
