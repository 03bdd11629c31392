"""Groups, hard negatives and training pairs."""
