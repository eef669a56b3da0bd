"""A plan made into a model, before it is scored, tuned or written."""
