"""How one database gets from one revision to another, safely."""
