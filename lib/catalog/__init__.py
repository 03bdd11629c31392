"""From raw files to a processed catalogue."""
