"""An HTTP server for trained translation models."""
