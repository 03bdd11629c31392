"""Is an attribute value that the catalogue states true of the picture? The audit sheet and what it shows."""
