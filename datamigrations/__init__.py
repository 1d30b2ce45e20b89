"""How rows from elsewhere get in."""
