"""The settings: what each one means, what it accepts, and where it comes from."""
