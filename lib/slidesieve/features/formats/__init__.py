"""Other people's feature files, one file a format: features, places in level-0 px, attributes."""
