"""Branches, loops, symbols that data binds, and what a run insists on."""
