"""Who is in, on which side, and one slide at a time: manifest, splits, audit, slide loop. Imports provenance."""
