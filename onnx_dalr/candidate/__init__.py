"""Forms of layers become factors, factors become a model: shared by search, tuning and writing."""
