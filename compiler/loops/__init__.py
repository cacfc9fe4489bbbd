"""Loops: one kernel as axes, index maps, a scalar body and a store."""
