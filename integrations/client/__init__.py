"""The Python API: submit images, watch a job, read its predictions."""
