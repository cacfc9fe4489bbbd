"""Windows that slide along the axis that vectors run along."""
