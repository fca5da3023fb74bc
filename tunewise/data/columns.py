"""Names of columns: one rule for the header of a table, the keys of a JSON object, and Parquet."""

from collections.abc import Iterable

from tunewise.errors import DataError


def column_names(names: Iterable[str], where: str) -> list[str]:
    """Return names without the spaces and byte-order marks around them.

    Several may be empty, as above the index that pandas writes or behind a last comma: what has no
    name is not read.

    Raises:
        DataError: if two columns have the same name.
    """
    found: list[str] = []
    seen: set[str] = set()
    for name in names:
        found.append(name.strip().strip("\ufeff").strip())
        if found[-1] in seen:
            raise DataError(f"{where}: column {found[-1]!r} is there twice; rename or remove one")
        seen |= {found[-1]} - {""}
    return found
