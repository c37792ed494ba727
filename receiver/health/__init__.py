"""What is wrong now: facts that were read, rules over them, and the lines that people read."""
