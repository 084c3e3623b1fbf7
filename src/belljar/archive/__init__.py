"""Archives: what they hold, and unpacking them so that nothing lands outside the directory."""
