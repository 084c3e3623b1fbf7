"""What ties a binary to a machine."""
