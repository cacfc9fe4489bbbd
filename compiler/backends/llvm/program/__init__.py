"""The entry of a program: steps, threads, branches, timestamps."""
