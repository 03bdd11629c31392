"""The embedded sample catalogue: its products, outfits, street photos and shop texts, all from seeds."""
