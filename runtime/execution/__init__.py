"""Executables: sessions, specialisations, saving and loading."""
