"""Models on disk: loading, external data, saving."""
