"""What a page refuses by itself, as people read it."""


class Refusal(Exception):
    """The request is answered with this status, and a page that says why and what to do."""

    def __init__(self, status: int, title: str, detail: str, *, retry_after_seconds: int = 0) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


def not_allowed(detail: str) -> Refusal:
    return Refusal(403, "Not allowed", detail)
