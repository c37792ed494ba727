"""`python -m receiver` is `receiver`."""

from receiver.cli import main

if __name__ == "__main__":
    main(prog_name="receiver")
