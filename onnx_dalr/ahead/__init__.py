"""What is said before the work: how small, how long."""
