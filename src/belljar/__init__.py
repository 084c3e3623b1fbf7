"""belljar builds software in a sealed environment, makes the result run anywhere, and proves it."""

__version__ = "0.1.0"
