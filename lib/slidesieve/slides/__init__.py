"""OpenSlide -> tiles: slide files, pixels, tissue and grid. Imports provenance and cohort."""
