"""A run in other people's forms: Hugging Face, QuPath's GeoJSON, AnnData, lmms-eval. May import all rooms above it."""
