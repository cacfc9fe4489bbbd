"""Register-tiled, packed contractions."""
