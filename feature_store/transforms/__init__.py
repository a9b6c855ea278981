"""From declarations to values: expressions, the aggregate catalogue, and the one windowing kernel."""
