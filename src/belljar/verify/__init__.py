"""Running outputs on real systems."""
