"""Call the service over HTTP."""
