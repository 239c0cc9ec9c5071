"""Label Studio: the ML-backend adapter, label configs, and pushing predictions."""
