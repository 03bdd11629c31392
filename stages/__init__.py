"""One script for each DVC stage."""
