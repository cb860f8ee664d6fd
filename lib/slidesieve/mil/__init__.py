"""Bag classification: the same compressors with a head, without a language model. Imports evaluation and below."""
