"""One connection to Redis, one translation of its errors, and Celery on top of both."""
