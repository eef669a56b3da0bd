"""ONNX: finding layers in a model, cutting it down, rewriting it, loading and saving."""
