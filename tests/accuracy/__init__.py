"""What compression costs trained models: accuracy, measured. `python -m tests.accuracy --help`"""
