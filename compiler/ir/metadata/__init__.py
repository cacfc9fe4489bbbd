"""What a graph's metadata says of the model it was read from."""
