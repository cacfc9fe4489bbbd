"""The trainer, optimizers and checkpoints."""
