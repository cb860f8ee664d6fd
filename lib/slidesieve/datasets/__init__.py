"""What is asked and taught: questions, captions, instructions, benchmarks, labels. Imports features and below."""
