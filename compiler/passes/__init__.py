"""Passes over the graph, and the pipelines that list them."""
