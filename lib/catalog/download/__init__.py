"""Photos that a catalogue names by address: fetched into a cache, with an index of what came from where."""
