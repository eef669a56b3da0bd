"""A first look at the original on a few samples, before any work."""
