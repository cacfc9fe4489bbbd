"""What numpy and Keras' backend call a function, as nodes of a graph."""
