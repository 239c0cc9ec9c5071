"""The projects that are served: what is known of each, and who looks at it when."""
