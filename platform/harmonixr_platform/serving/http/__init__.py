"""The HTTP edge of the service: routes, request guard, server-sent events and metrics."""
