"""Kernels taken apart by least squares: what the structures of convolutions have in common (methods.md §6)."""
