"""Recipes, lock files and the sources they name."""
