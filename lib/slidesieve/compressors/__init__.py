"""Many tiles in, few visual tokens out, behind one interface (see `result.Compressed`): one method, one file.

Imports nothing of ours but each other.
"""
