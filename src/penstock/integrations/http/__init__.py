"""What the transports of httpx, httpx2 and requests have in common."""
