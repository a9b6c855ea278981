"""History: loading it, materializing it, and training sets from it."""
