"""The demo: generated pictures and a small checkpoint that understands them."""
