"""One kernel: its schedule, its LLVM module, its object code."""
