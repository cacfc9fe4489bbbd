"""The runtime: executables, packages, buffers and devices."""
