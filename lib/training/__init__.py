"""Heads, losses, samplers and the training loop."""
