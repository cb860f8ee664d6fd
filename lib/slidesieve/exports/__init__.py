"""A run in other people's forms: a Hugging Face folder, QuPath's GeoJSON, AnnData. May import all rooms above it."""
