"""What `check` is asked: budgets, from options or from a config file, and the models they are for."""
