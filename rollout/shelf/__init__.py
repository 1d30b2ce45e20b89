"""The shelf: where rollbacks put what people entered, and from where the next upgrade gives it back."""
