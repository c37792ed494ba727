"""What a form sends: url-encoded, small, and with few fields."""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from receiver.errors import Rejected
from receiver.problem_types import ProblemType
from receiver.web.pages.refusals import Refusal

MAX_BYTES = 64 * 1024
MAX_FIELDS = 1_200  # a list's rows may be picked, and there are a few more
CONTENT_TYPE = "application/x-www-form-urlencoded"


class Form:
    """The fields of a form, or of a query; one that was not sent is empty."""

    def __init__(self, pairs: Sequence[tuple[str, str]] = ()) -> None:
        self._pairs = pairs

    def get(self, name: str) -> str:
        """The last value of a field, without blanks around it."""
        return next((value.strip() for key, value in reversed(self._pairs) if key == name), "")

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]


def check_form(headers: Mapping[str, str]) -> None:
    """Raises Refusal (415) where something else comes than a form."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != CONTENT_TYPE:
        raise Refusal(415, "Not a form", f"A form is sent as {CONTENT_TYPE}.")


def read_form(text: bytes) -> Form:
    """Raises Rejected (400) for too many fields, or what is no UTF-8."""
    try:
        decoded = text.decode("ascii")
        pairs = parse_qsl(decoded, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as exc:
        raise Rejected(ProblemType.BAD_BODY, "This form cannot be read.") from exc
    return Form(pairs)


def read_query(text: bytes) -> Form:
    """The same for a query. Raises Rejected (400)."""
    try:
        return read_form(text)
    except Rejected as exc:
        raise Rejected(ProblemType.BAD_QUERY, "This address cannot be read.") from exc
