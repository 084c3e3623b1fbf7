"""From a locked recipe to an artifact in the store."""
