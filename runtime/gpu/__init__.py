"""GPU models: the device and its driver."""
