"""Products with the weights of a softmax, block by block: attention as one kernel."""
