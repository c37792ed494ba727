"""Five made-up providers, declared in TOML, that differ in all that can be declared."""

import base64
import hmac
from collections.abc import Mapping
from pathlib import Path

from receiver.declared.files import read_text
from tests.support.signatures import MOMENT, SECRET

TABLES = """\
# An envelope, a list of objects, an HMAC of the time and the body under a key in base64.
[prism]
base_url = "https://api.prism.example"
link_life_seconds = 3600
id = ["data.task.id", "task_id"]
state = "data.task.state"
files = "data.task.images[].link"
error = "data.task.error"
states = { progress = ["queued", "drawing"], completed = ["done"], failed = ["broken"] }
status = { path = "/v1/models/{model}/tasks/{task_id}", otherwise = "/v1/old/{task_id}" }

[prism.signature]
scheme = "hmac-sha256"
header = "X-Prism-Signature"
prefix = "v1="
encoding = "base64"
several = true
message = "{X-Prism-Time}.{body}"
key = "base64"
timestamp = "X-Prism-Time"
window_seconds = 60

# One link as text, public keys.
[quartz]
title = "Quartz Images"
base_url = "https://quartz.example/api"
callback_rules = "HTTPS, any 2xx."
link_life_seconds = 86400
id = "job"
state = "code"
files = { at = "picture", kind = "image" }
error_code = "why"
error_message = "words"
poll = { first_seconds = 20, spacing_seconds = 5, per_minute = 60 }

[quartz.states]
progress = ["100"]
completed = ["200", "true"]
failed = ["500", "false"]

[quartz.status]
path = "/jobs"
query = { id = "{task_id}" }
headers = { Accept-Version = "3" }
auth = "x-key: {key}"

[quartz.signature]
scheme = "ed25519"
header = "x-quartz-signature"
message = "{x-quartz-time}\\n{body_sha256}"
timestamp = "x-quartz-time"
keys_url = "https://quartz.example/keys.json"

# Results as JSON in a text, a secret in clear.
[ember]
base_url = "https://api.ember.example"
link_life_seconds = 86400
id = "data.id"
state = "data.state"
files = ["data.result.urls", { at = "data.result.cover", kind = "image" }]
error = ["data.failure", "data.error"]
states = { completed = ["success"], failed = ["fail"], progress = ["waiting"] }
status = { path = "/tasks/{task_id}/state", auth = "Authorization: Key {key}" }
signature = { scheme = "secret", header = "authorization", prefix = "Bearer " }

# Every link of an output of any shape, Standard Webhooks, and files that need not be there.
[zinc]
base_url = "https://api.zinc.example"
link_life_seconds = 86400
id = "[0].id"
state = "[0].status"
files = { at = "[0].output", find = "links" }
files_optional = true
error = "[0].error"
states = { completed = ["succeeded"], failed = ["failed"], progress = ["starting"] }
status = { path = "/p/{task_id}" }
signature = { scheme = "standard-webhooks" }

# The files themselves in the answer, and time and signatures as fields of one header.
[coral]
base_url = "https://api.coral.example"
link_life_seconds = 86400
tells_all = false
id = "job.id"
state = "job.state"
files = { at = "job.images[].b64_json", find = "base64", kind = "image" }
error = "job.error"
states = { completed = ["ready"], failed = ["failed"], progress = ["working"] }
status = { path = "/jobs/{task_id}", otherwise = "/archive/{task_id}", most_bytes = 33554432 }

[coral.signature]
scheme = "hmac-sha256"
header = "Coral-Signature"
fields = true
prefix = "v1="
message = "{t}.{body}"
timestamp = "t"
"""

LINK = "https://media.example/0.png"
SAMPLES: Mapping[str, Mapping[str, object]] = {
    "prism": {
        "prism-callback-completed-multi-image": {
            "data": {"task": {"id": "t", "state": "done", "images": [{"link": LINK}, {"link": LINK + "?1"}]}}
        },
        "prism-callback-failed": {"data": {"task": {"state": "broken", "error": "dark"}}, "task_id": "t"},
        "prism-status-running": {"data": {"task": {"id": "t", "state": "drawing"}}},
        "prism-error-400": {"message": "no such thing"},
    },
    "quartz": {
        "quartz-callback-completed-image": {"job": "t", "code": 200, "picture": LINK},
        "quartz-callback-success": {"job": "t", "code": True, "picture": {"url": LINK}},
        "quartz-callback-failed": {"job": "t", "code": 500, "why": 12, "words": "too dark"},
        "quartz-status-running": {"job": "t", "code": "100"},
    },
    "ember": {
        "ember-callback-success-multi": {
            "data": {"id": "t", "state": "success", "result": f'{{"urls": ["{LINK}"], "cover": "{LINK}?c"}}'}
        },
        "ember-callback-failed": {"data": {"id": "t", "state": "fail", "error": {"message": "dark"}}},
        "ember-status-pending": {"data": {"id": "t", "state": "waiting"}},
    },
    "zinc": {
        "zinc-callback-completed-image": [{"id": "t", "status": "succeeded", "output": {"a": [[LINK]]}}],
        "zinc-callback-failed": [{"id": "t", "status": "failed", "error": "dark"}],
        "zinc-status-pending": [{"id": "t", "status": "starting", "output": None}],
    },
    "coral": {
        "coral-status-completed-multi-image": {
            "job": {"id": "t", "state": "ready", "images": [{"b64_json": "iVBORw0KGgo="}, {"b64_json": LINK}]}
        },
        "coral-callback-failed": {"job": {"id": "t", "state": "failed", "error": "dark"}},
        "coral-status-running": {"job": {"id": "t", "state": "working"}},
    },
}

OWN = read_text(TABLES, "own.toml")


def write_own(folder: Path) -> Path:
    path = folder / "own.toml"
    path.write_text(TABLES, encoding="utf-8")
    return path


def prism(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """A callback signed as the first of them wants it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = hmac.digest(key, f"{MOMENT}.".encode() + body, "sha256")
    return {"x-prism-time": MOMENT, "x-prism-signature": "v1=" + base64.b64encode(made).decode()}


def coral(body: bytes, *secrets: str, moment: str = MOMENT) -> dict[str, str]:
    """One signed as the last of them wants it, once by each secret."""
    made = (
        hmac.digest(secret.encode(), f"{moment}.".encode() + body, "sha256").hex()
        for secret in secrets or [SECRET]
    )
    return {"coral-signature": ",".join([f"t={moment}", *(f"v1={each}" for each in made), "v0=old"])}
