"""A namespace sandbox that stands alone: it imports nothing of belljar."""
