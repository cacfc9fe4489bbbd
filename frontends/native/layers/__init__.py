"""Layers, under the names that PyTorch and Keras users know. Images are [N,C,H,W]."""
