"""From vectors to answers."""
