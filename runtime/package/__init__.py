"""The file format of packages: sections, arrays, signatures."""
