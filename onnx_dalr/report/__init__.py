"""Views of results, a file each of the name that its result has in `results`, and what renders them."""
