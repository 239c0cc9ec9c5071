"""Test a program that uses prelabel without Redis, worker or model: `MemoryClient` takes the place of `Client`."""

from .answers import Choice
from .client import MemoryClient
from .worker import Answering

__all__ = ["Answering", "Choice", "MemoryClient"]
