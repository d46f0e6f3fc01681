"""The service as Python calls: `Client(base_url)`, which waits, retries and raises one kind of error."""

from harmonixr_platform.client.client import Client
from harmonixr_platform.client.errors import ServiceError

__all__ = ["Client", "ServiceError"]
