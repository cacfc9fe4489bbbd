"""Sorting, selection, search and suppression."""
