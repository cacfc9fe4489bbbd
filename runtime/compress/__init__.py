"""Compression of models: calibration runs, measuring, results."""
