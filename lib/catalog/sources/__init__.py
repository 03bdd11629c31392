"""Adapters, one for each form a catalogue arrives in."""
