"""APIDot's words: Vidgo's, except for where a status answer has its files and for errors.

Submit path, field names, id form and states are the same in both documentations, so this is one dialect
with two accents. How APIDot repeats callbacks is not documented: Vidgo's schedule is assumed. Its names of
errors are documented, the shape around them is assumed.
"""

from receiver.errors import Rejected
from receiver.simulator.plot import Snapshot
from receiver.simulator.vidgo import VidgoDialect

# https://github.com/APIDotAI/gpt-image-2-api
_ERROR_NAMES = {
    400: "invalid_request",
    401: "authentication_error",
    402: "insufficient_credits",
    404: "not_found",
    429: "rate_limited",
}


class ApidotDialect(VidgoDialect):
    """https://github.com/APIDotAI/gpt-image-2-api and https://github.com/APIDotAI/apidot-examples ."""

    name = "apidot"

    def status(self, task: Snapshot) -> object:
        """As in curl/generate.md: a finished answer nests its files, while callbacks do not."""
        data = self.describe(task)
        if task.state == "completed":
            data["output"] = {"files": data.pop("files")}
        return {"code": 200, "data": data}

    def refusal(self, problem: Rejected) -> object:
        name = _ERROR_NAMES.get(problem.status, "error")
        return {"code": problem.status, "error": name, "message": problem.detail}
