"""The truth about jobs, in Redis: the producer's half and the worker's, all keys and all scripts."""
