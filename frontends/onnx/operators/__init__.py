"""What reads each operator."""
