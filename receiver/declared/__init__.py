"""Providers that are declared in TOML: one table makes one, without code.

keys        what a table may say, key by key
files       a file read whole, its problems told by line and key
provider    what was declared, as a provider
json_paths, signatures    the two small languages in it
"""

from receiver.declared.files import read_file
from receiver.declared.keys import keys_table
from receiver.declared.provider import DeclaredProvider

__all__ = ["DeclaredProvider", "keys_table", "read_file"]
