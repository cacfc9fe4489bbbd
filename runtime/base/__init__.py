"""What every part of the runtime stands on: what runs, and what it takes and gives."""
