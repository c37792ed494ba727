"""What comes from outside, made harmless for a terminal."""

from receiver.escapes import printable, printable_lines

__all__ = ["printable", "printable_lines"]
