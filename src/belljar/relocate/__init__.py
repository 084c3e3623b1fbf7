"""References to the placeholder: finding, rewriting and installing."""
