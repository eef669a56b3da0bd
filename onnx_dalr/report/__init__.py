"""One result object and its renderings."""
