"""Slide encoder -> compressor -> projector or adapters -> language model; models on disk. Imports compressors."""
