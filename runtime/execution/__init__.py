"""Executables: sessions, specializations, saving and loading."""
