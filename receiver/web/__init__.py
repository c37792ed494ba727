"""The HTTP doors: parse, call one thing, render."""
