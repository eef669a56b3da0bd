"""Arrays become batches."""
