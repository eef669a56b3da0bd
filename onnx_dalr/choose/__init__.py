"""A Target becomes a Plan: what each layer may become, at what cost, and which of it is taken."""
