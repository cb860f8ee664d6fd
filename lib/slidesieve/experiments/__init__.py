"""Finished experiments beside each other: what differs, which scores better, what moved. Imports up to evaluation."""
