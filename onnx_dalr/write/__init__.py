"""A Plan becomes a file: made, verified, put in its place."""
