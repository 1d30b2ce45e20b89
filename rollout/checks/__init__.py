"""What can be found wrong with a database; see registry.py."""
