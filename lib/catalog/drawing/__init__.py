"""Drawing of the embedded sample catalogue: plan, cloth, garments, scenes and shop texts, all from seeds."""
