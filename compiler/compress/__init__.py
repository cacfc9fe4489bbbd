"""Compression of graphs: which numbers become narrow, and with which scales. Nothing runs here."""
