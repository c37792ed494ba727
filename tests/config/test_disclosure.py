"""Settings as admins may see them: nothing secret, and the same on both sides where they are the same."""

import pytest

from receiver.config.disclosure import disclose
from receiver.config.fields import FIELDS
from receiver.config.settings import load_settings

KEY, OTHER_KEY = "the-token-of-an-admin", "the-token-of-another"
RANDOM, OTHER = "9f2c41d07be8a6135c0e", "1b7ad90e44f3c2586a9d"
SECRETS = {
    "RECEIVER_SECRET": f"sEcReT{RANDOM},old{OTHER}",
    "RECEIVER_API_TOKENS": f"shop:aPi{RANDOM}@ann",
    "RECEIVER_ADMIN_TOKENS": f"root:aDm{RANDOM}",
    "VIDGO_API_KEY": f"vIdGo{RANDOM}",
    "APIXO_API_KEY": "short",
    "RECEIVER_SINK_HOOK": f"https://ann:pAsS{RANDOM}@app.example.com:8443/hooks/pAtH{RANDOM}?key=qUeRy{RANDOM}",
    "RECEIVER_SINK_HOOK_SECRET": f"sIgN{RANDOM}",
    "RECEIVER_TOKEN": f"cLi{RANDOM}",
}


def shown(key: str | None = KEY, **environ: str) -> dict[str, str]:
    return disclose(load_settings(environ), key)


def test_no_secret_is_shown_and_each_that_is_set_says_so() -> None:
    told = shown(**SECRETS)
    for part in (RANDOM, OTHER, "short", "ann", "root", "shop", "pAtH", "hooks"):
        assert part not in "".join(told.values())
    for variable in SECRETS.keys() - {"RECEIVER_SINK_HOOK", "RECEIVER_TOKEN"}:
        assert told[variable].startswith("set"), variable
    assert told["APIDOT_API_KEY"] == ""


@pytest.mark.parametrize("variable", sorted(SECRETS.keys() - {"RECEIVER_TOKEN", "APIXO_API_KEY"}))
def test_a_fingerprint_tells_equal_from_other_under_one_key_alone(variable: str) -> None:
    changed = SECRETS | {variable: SECRETS[variable].replace(RANDOM, OTHER)}
    told = shown(**SECRETS)[variable]
    assert told == shown(**SECRETS)[variable]
    assert told != shown(**changed)[variable]
    assert told != shown(OTHER_KEY, **SECRETS)[variable]
    assert "(" not in shown(None, **SECRETS)[variable]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("VIDGO_API_KEY", "short", "set"),
        ("RECEIVER_ADMIN_TOKENS", "changemechangeme", "set"),
        ("RECEIVER_ADMIN_TOKENS", f"{RANDOM},changemechangeme", "set"),
        ("RECEIVER_SINK_Q", "redis://:hunter2@queue:6379/0?stream=images", "redis://queue:6379/…"),
        ("RECEIVER_SINK_Q", f"redis://:hunter2@queue/0?stream={RANDOM}", "redis://queue/…"),
        ("RECEIVER_SINK_Q", f"nats://hunter2@a:1,b:2?subject={RANDOM}", "nats://a:1,b:2/…"),
        ("RECEIVER_SINK_Q", "http://app.example.com/hooks", "http://app.example.com/…"),
    ],
)
def test_what_could_be_found_by_trying_has_no_fingerprint(variable: str, value: str, expected: str) -> None:
    assert shown(**{variable: value})[variable] == expected


@pytest.mark.parametrize(
    "url",
    [f"https://ann:{RANDOM}/x@host/", f"https://ann:{RANDOM}@x@host/", f"https://ann:{RANDOM}#@host/"],
)
def test_a_password_that_hides_where_the_host_begins_hides_the_host(url: str) -> None:
    assert shown(RECEIVER_SINK_HOOK=url)["RECEIVER_SINK_HOOK"].startswith("https:…")
    assert RANDOM not in shown(RECEIVER_SINK_HOOK=url)["RECEIVER_SINK_HOOK"]


def test_what_is_no_secret_is_told_as_it_is_written() -> None:
    environ = {
        "RECEIVER_DATA_DIR": "/srv/receiver",
        "RECEIVER_ASSET_HOSTS": "apixo=a.example,b.example vidgo=c.example",
        "RECEIVER_ASSET_TYPES": "audio,image",
        "RECEIVER_ALLOW_NETWORKS": "10.0.0.0/8,127.0.0.0/8",
        "RECEIVER_BODY_TIMEOUT_SECONDS": "1.5",
        "RECEIVER_CONFIRM": "never",
        "RECEIVER_ALLOW_UNTOKENED": "true",
        "VIDGO_FIRST_POLL_SECONDS": "10",
        "RECEIVER_SINK_FILE": "jsonl:///srv/events.jsonl",
        "RECEIVER_SINK_FILE_FILTER": "provider=apixo,vidgo",
    }
    told = shown(**environ)
    assert {name: told[name] for name in environ} == environ
    again = shown(**{name: text for name, text in told.items() if text})
    assert again == told  # so that what a service tells can be read


def test_every_variable_is_there_but_those_of_the_command_line_and_backends() -> None:
    left_out = {"RECEIVER_URL", "RECEIVER_ALLOW_PLAIN_HTTP", "RECEIVER_TOKEN", "RECEIVER_WEBHOOK_SECRET"}
    assert {field.variable for field in FIELDS} - left_out <= shown().keys()
    assert not left_out & shown().keys()
