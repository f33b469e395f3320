"""Ways to a gradient by local dynamics: each small, as its authors wrote it, on one and the same task."""
