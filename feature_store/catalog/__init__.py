"""The catalog: what is declared, as people read it; recorded in the lake, published for the server."""
