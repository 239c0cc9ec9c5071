"""The machine a worker runs on: CPUs, memory, GPUs, child processes."""
