"""Ways in and ways out. Importing this needs neither torch nor pandas."""

from .client import Client, Job

__all__ = ["Client", "Job"]
