"""How messages are taken off the queues."""
