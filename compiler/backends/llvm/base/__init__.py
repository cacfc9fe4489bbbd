"""What every part of the LLVM backend stands on: types, the machine, the cache of objects."""
