"""Label Studio's data as ours and back."""
