"""A Python client of the service: `Client(base_url)`, which waits, retries and raises only ServiceError."""

from harmonixr_platform.client.client import Client
from harmonixr_platform.client.errors import ServiceError

__all__ = ["Client", "ServiceError"]
