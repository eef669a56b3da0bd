"""Plans: what was decided, layer by layer, and the file it is kept in."""
