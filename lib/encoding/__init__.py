"""The backbone and what it embeds; the only room that imports open_clip."""
