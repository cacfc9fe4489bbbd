"""Rewrite rules, named by their equations, and the engine that applies them."""
