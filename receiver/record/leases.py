"""Whose a lease is: its name begins with its holder's, so that what one holder left can be freed by that.

A lease that has run out needs no freeing: its row is due again as it is. Whether a holder is gone before that
is not for the record to say; the store knows what its engine can prove.
"""

EVERYBODY = ""  # the name that every holder's begins with

# Rows that a holder has leased, in the words of a statement that has ``:holder``.
HELD = "lease IS NOT NULL AND substr(lease, 1, length(:holder)) = :holder"


def lease_name(holder: str, unique: str) -> str:
    """A name for what a holder leases at once."""
    return f"{holder}/{unique}"
