"""What the schema is now."""
