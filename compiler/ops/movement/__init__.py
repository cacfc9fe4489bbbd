"""Index maps, gathers and scatters."""
