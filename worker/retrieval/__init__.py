"""Finding images by a vector: which vectors a collection has, in files that any number of processes search."""
