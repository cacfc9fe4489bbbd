"""Packages of earlier compilations."""
