"""What a worker tells about itself: metrics, a trace, logs."""
