"""What the commands return: facts, without their looks."""
