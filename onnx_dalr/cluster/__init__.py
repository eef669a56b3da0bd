"""The passes over the fit samples, shared out to Dask workers: each runs a part of them, and the parts add up."""
