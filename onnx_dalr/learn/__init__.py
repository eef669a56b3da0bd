"""What the fit samples teach: statistics of every layer, and what its outputs do to the network."""
