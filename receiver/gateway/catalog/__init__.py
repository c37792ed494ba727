"""What providers' pages say of their models, as data: one TOML file for each, which an operator may replace.

entries     what a file holds, as values
files       a file read whole, its problems told by line and key
"""

from receiver.gateway.catalog.entries import (
    BilledBy,
    Catalog,
    Fields,
    ModelEntry,
    PriceRow,
    Refunds,
    Rule,
)
from receiver.gateway.catalog.files import (
    OLDER_TODO,
    check_catalogs,
    load_catalogs,
    older_catalogs,
    read_catalog,
    shipped_path,
    shipped_providers,
)

__all__ = [
    "OLDER_TODO",
    "BilledBy",
    "Catalog",
    "Fields",
    "ModelEntry",
    "PriceRow",
    "Refunds",
    "Rule",
    "check_catalogs",
    "load_catalogs",
    "older_catalogs",
    "read_catalog",
    "shipped_path",
    "shipped_providers",
]
