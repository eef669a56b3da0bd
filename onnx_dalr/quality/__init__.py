"""What compressing did to a model's outputs: measures of every kind, two models side by side."""
