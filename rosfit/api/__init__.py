"""REST under /api/v1 and the WebSocket: thin controllers over the domain."""
