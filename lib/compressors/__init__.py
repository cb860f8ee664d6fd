"""Compressors: many tiles in, few visual tokens out, behind one interface (see `result.Compressed`)."""
