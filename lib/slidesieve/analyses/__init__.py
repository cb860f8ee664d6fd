"""What is asked of trained models and features: lengths, token maps, soft and hard, slots, redundancy, relevance.

Imports mil and below.
"""
