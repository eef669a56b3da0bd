"""optimize, analyze, apply, compare, inspect, check: each reads top to bottom."""
