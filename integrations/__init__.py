"""Ways in and ways out. Importing this needs neither torch nor pandas."""

from .client.client import Client
from .client.job import Job

__all__ = ["Client", "Job"]
