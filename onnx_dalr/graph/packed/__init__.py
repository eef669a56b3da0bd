"""Weights that stay packed while the model runs: the nodes that unpack them, written so that no runtime folds them."""
