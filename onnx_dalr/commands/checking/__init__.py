"""The parts of `check`: what a model has, what grew in it, what it does beside another one."""
