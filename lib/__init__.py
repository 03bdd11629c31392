"""The product's code; rooms may import only downwards (ARCHITECTURE.md)."""
