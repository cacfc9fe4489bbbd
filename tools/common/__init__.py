"""What commands share: the terminal, models, inputs."""
