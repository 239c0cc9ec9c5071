"""Ways in and ways out."""
