"""What is counted on both ends, and the server that shows it."""
