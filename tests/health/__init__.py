"""What is wrong, by rules over facts; told once."""
