"""From references and texts to vectors."""
