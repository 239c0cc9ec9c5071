"""Where answers go besides the ledger: to the platform, and onto the page."""
