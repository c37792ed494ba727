"""Settings: the environment becomes one value, or every problem at once."""

import sys
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from receiver import plugins
from receiver.config.disclosure import disclose
from receiver.config.fields import (
    ALL_FIELDS,
    AWS_FIELDS,
    FIELDS,
    PROVIDER_FIELDS,
    SINK_FIELDS,
    settings_table,
)
from receiver.config.settings import Settings, SinkSettings, guessable_secrets, load_settings
from receiver.errors import Misconfigured
from receiver.models import Access, Confirm, MessageFormat, Signing
from receiver.options import AwsAccess
from receiver.plugins import load_providers
from receiver.providers.vidgo import Vidgo

SECRET = "a-secret-of-some-length"


def problems_of(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(Misconfigured) as caught:
        load_settings(environ)
    return caught.value.problems


def only_problem_of(environ: dict[str, str]) -> str:
    (problem,) = problems_of(environ)
    return problem


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = load_settings({})
    assert settings.data_dir == Path("receiver-data")
    assert settings.database_url == "sqlite:receiver.db"
    assert settings.assets_url == "file:assets"
    assert settings.public_url == "http://127.0.0.1:8080"
    assert (settings.host, settings.port, settings.url) == ("127.0.0.1", 8080, "http://127.0.0.1:8080")
    assert settings.max_body_bytes == 2_097_152
    assert settings.task_max_bytes == 5 * settings.asset_max_bytes
    assert settings.asset_types == {"image"}
    assert not settings.allow_untokened
    assert settings.confirm is Confirm.WEAK
    assert settings.lost_after_seconds == 86_400
    assert settings.embedded


def test_every_field_of_the_table_is_a_setting_and_every_setting_is_in_the_table() -> None:
    in_table = {field.attribute for field in FIELDS}
    assert in_table | {"aws", "sinks", "providers", "ephemeral_disk", "own_providers"} == set(
        Settings.__struct_fields__
    )
    assert {field.attribute for field in AWS_FIELDS} | {"has_role"} == set(AwsAccess.__struct_fields__)
    assert {field.attribute for field in PROVIDER_FIELDS} == set(Access.__struct_fields__)
    in_sink_table = {field.attribute for field in SINK_FIELDS} - {"filter", "order"} | {"name", "route"}
    assert in_sink_table == set(SinkSettings.__struct_fields__)


def test_every_default_in_the_table_is_acceptable() -> None:
    for field in ALL_FIELDS:
        field.accepts.parse(field.default)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, AwsAccess()),
        (
            {
                "AWS_ACCESS_KEY_ID": "k",
                "AWS_SECRET_ACCESS_KEY": "s",
                "AWS_SESSION_TOKEN": "t",
                "AWS_DEFAULT_REGION": "eu-central-1",
                "AWS_ENDPOINT_URL": "https://s3.example/",
                "BUCKET_NAME": "images",
            },
            AwsAccess(
                access_key_id="k",
                secret_access_key="s",
                session_token="t",
                region="eu-central-1",
                endpoint="https://s3.example",
                bucket="images",
            ),
        ),
        (
            {"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b", "AWS_ENDPOINT_URL_S3": "https://one.example"}
            | {"AWS_ENDPOINT_URL": "https://two.example"},
            AwsAccess(region="a", endpoint="https://one.example"),
        ),
        (
            {
                "BUCKETEER_AWS_ACCESS_KEY_ID": "k",
                "BUCKETEER_AWS_SECRET_ACCESS_KEY": "s",
                "BUCKETEER_AWS_REGION": "us-east-1",
                "BUCKETEER_BUCKET_NAME": "bucketeer-1",
                "AWS_SESSION_TOKEN": "of-another-program",
            },
            AwsAccess(access_key_id="k", secret_access_key="s", region="us-east-1", bucket="bucketeer-1"),
        ),
        # Keys of one's own win over the add-on's, whole.
        (
            {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "too", "BUCKET_NAME": "mine"}
            | {"BUCKETEER_AWS_ACCESS_KEY_ID": "k", "BUCKETEER_BUCKET_NAME": "bucketeer-1"},
            AwsAccess(access_key_id="mine", secret_access_key="too", bucket="mine"),
        ),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}, AwsAccess(has_role=True)),
    ],
)
def test_buckets_are_reached_as_hosts_name_it(given: dict[str, str], expected: AwsAccess) -> None:
    assert load_settings(given).aws == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"RECEIVER_ASSET_LINKS": "public"}, "needs RECEIVER_ASSET_BASE_URL"),
        ({"RECEIVER_ASSET_BASE_URL": "https://cdn.example"}, "is for RECEIVER_ASSET_LINKS=public"),
        (
            {"RECEIVER_ASSET_LINKS": "presigned", "RECEIVER_LINK_TTL_SECONDS": "604801"},
            "no asset store signs for longer than 7 days",
        ),
        ({"RECEIVER_ASSET_LINKS": "direct"}, "one of receiver, presigned, public"),
    ],
)
def test_links_that_nobody_could_follow_are_refused(given: dict[str, str], words: str) -> None:
    assert words in only_problem_of(given)


def test_values_are_read_in_their_types() -> None:
    settings = load_settings(
        {
            "RECEIVER_DATA_DIR": "/srv/data",
            "RECEIVER_PUBLIC_URL": "https://hooks.example.com/in/",
            "RECEIVER_SECRET": f"{SECRET}, {SECRET}-old",
            "RECEIVER_ALLOW_UNTOKENED": "Yes",
            "RECEIVER_BODY_TIMEOUT_SECONDS": "2.5",
            "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8, fd00::/8",
            "RECEIVER_CONFIRM": "Always",
            "RECEIVER_LOST_AFTER_SECONDS": "3600",
            "RECEIVER_ASSET_TYPES": "image,Video",
            "RECEIVER_ASSET_HOSTS": "vidgo=storage.vidgo.ai,CDN.example.com apixo=cdn.apixo.ai",
        }
    )
    assert settings.data_dir == Path("/srv/data")
    assert settings.public_url == "https://hooks.example.com/in"
    assert settings.secrets == (SECRET, f"{SECRET}-old")
    assert settings.allow_untokened is True
    assert settings.body_timeout_seconds == 2.5
    assert settings.confirm is Confirm.ALWAYS
    assert settings.lost_after_seconds == 3600
    assert settings.allow_networks == (ip_network("127.0.0.0/8"), ip_network("fd00::/8"))
    assert settings.asset_types == {"image", "video"}
    assert settings.asset_hosts == {
        "vidgo": ("cdn.example.com", "storage.vidgo.ai"),
        "apixo": ("cdn.apixo.ai",),
    }


def test_all_problems_are_told_at_once_each_with_its_variable() -> None:
    problems = problems_of(
        {
            "PORT": "http",
            "RECEIVER_LOG_FORMAT": "xml",
            "RECEIVER_ALLOW_NETWORKS": "10.0.0.1/8",
            "RECEIVER_MAX_BODY": "1",
            "RECEIVER_SINK_A": "gopher://u:hidden-password@h/v",
        }
    )
    text = "\n".join(problems)
    assert len(problems) == 5
    assert "PORT must be a whole number from 1 to 65535, not 'http'" in problems
    assert "RECEIVER_LOG_FORMAT must be one of auto, json, text, not 'xml'" in problems
    assert "RECEIVER_MAX_BODY is not a setting; did you mean RECEIVER_MAX_BODY_BYTES?" in problems
    assert "RECEIVER_SINK_A: sink gopher://… is not known" in text
    assert "hidden-password" not in text


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_counts_as_unset(text: str) -> None:
    assert load_settings({"PORT": text, "RECEIVER_NONSENSE": text, "RECEIVER_SINK_A": text}).port == 8080


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("RECEIVER_BODY_TIMEOUT_SECONDS", "nan"),
        ("RECEIVER_BODY_TIMEOUT_SECONDS", "inf"),
        ("RECEIVER_ALLOW_UNTOKENED", "maybe"),
        ("RECEIVER_DATA_DIR", "~nobody-of-this-name/data"),
        ("RECEIVER_ASSET_TYPES", "text"),
        ("RECEIVER_ASSET_TYPES", ","),
        ("RECEIVER_ASSET_HOSTS", "vidgo"),
        ("RECEIVER_PUBLIC_URL", "hooks.example.com"),
        ("RECEIVER_PUBLIC_URL", "https://hooks.example.com/?a=b"),
        ("RECEIVER_PUBLIC_URL", "https://hooks.example.com:99999"),
        ("RECEIVER_HOST", "not a host"),
        ("RECEIVER_CONFIRM", "sometimes"),
        ("RECEIVER_LOST_AFTER_SECONDS", "59"),
        ("RECEIVER_LOST_AFTER_SECONDS", "2592001"),
        ("VIDGO_POLLS_PER_MINUTE", "0"),
        ("REAPI_FIRST_POLL_SECONDS", "soon"),
    ],
)
def test_a_value_out_of_range_is_refused_and_shown(variable: str, text: str) -> None:
    problem = only_problem_of({variable: text, "RECEIVER_SINK_A": "jsonl:a.jsonl"})
    assert problem.startswith(f"{variable} must be ")
    assert repr(text) in problem


def test_hosts_of_a_provider_that_there_is_not_are_refused() -> None:
    problem = only_problem_of({"RECEIVER_ASSET_HOSTS": "vdgo=cdn.example.com"})
    assert problem.startswith("RECEIVER_ASSET_HOSTS must be ")
    assert "provider vdgo is not known (known: vidgo, " in problem


@pytest.mark.parametrize("text", ["provider=vdgo", "type=task.done", "colour=red"])
def test_a_filter_that_selects_nothing_known_is_refused(text: str) -> None:
    problem = only_problem_of({"RECEIVER_SINK_A_FILTER": text, "RECEIVER_SINK_A": "jsonl:a.jsonl"})

    assert problem.startswith("RECEIVER_SINK_A_FILTER has ")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RECEIVER_SECRET", "too-short"),
        ("RECEIVER_API_TOKENS", f"{SECRET},tiny-one"),
        ("RECEIVER_ADMIN_TOKENS", "has a blank in the middle"),
        ("RECEIVER_TOKEN", "too-short"),
        ("RECEIVER_DATABASE_URL", "my-password@host"),
        ("RECEIVER_PUBLIC_URL", "https://user:my-password@host/"),
        ("RECEIVER_SINK_A_SECRET", "too-short"),
        ("VIDGO_API_KEY", "Bearer sk-something"),
        ("VIDGO_API_KEY", "sk-sömething"),
        ("VIDGO_BASE_URL", "https://user:my-password@host/"),
        ("VIDGO_APIKEY", "sk-something"),
    ],
)
def test_a_secret_never_appears_in_a_message(variable: str, text: str) -> None:
    problem = only_problem_of({variable: text, "RECEIVER_SINK_A": "jsonl:a.jsonl"})
    assert variable in problem
    assert text not in problem


def test_an_admins_token_cannot_be_bound_to_owners() -> None:
    problem = only_problem_of({"RECEIVER_ADMIN_TOKENS": f"ops:{SECRET}@tenant-7"})

    assert problem.startswith("RECEIVER_ADMIN_TOKENS must be ")
    assert "without owners" in problem


def test_a_list_of_nothing_is_no_list_of_secrets() -> None:
    assert only_problem_of({"RECEIVER_SECRET": ","}).startswith("RECEIVER_SECRET must be ")


def test_printing_settings_shows_no_secret() -> None:
    settings = load_settings(
        {
            "RECEIVER_SECRET": SECRET,
            "RECEIVER_SINK_A": f"redis://:{SECRET}@h/0",
            "VIDGO_API_KEY": f"{SECRET}-2",
        }
    )
    assert settings.providers["vidgo"].api_key == f"{SECRET}-2"
    assert SECRET not in f"{settings!r} {settings.sinks!r} {settings.providers!r}"


def test_a_host_that_gives_a_port_is_listened_to_from_outside() -> None:
    assert load_settings({"PORT": "5000"}).host == "0.0.0.0"
    assert load_settings({"PORT": "5000"}).public_url == "http://127.0.0.1:5000"
    assert load_settings({"PORT": "5000", "RECEIVER_HOST": "::1"}).public_url == "http://[::1]:5000"


def test_a_port_from_the_command_line_opens_nothing_to_the_network() -> None:
    settings = load_settings({}, port=9000)
    assert (settings.host, settings.port, settings.public_url) == ("127.0.0.1", 9000, "http://127.0.0.1:9000")
    assert load_settings({"RECEIVER_HOST": "10.0.0.5"}, host="127.0.0.2").host == "127.0.0.2"


def test_without_variables_of_its_own_a_provider_is_as_its_adapter_says_and_has_no_key() -> None:
    accesses = load_settings({}).providers
    assert list(accesses) == plugins.names("providers")
    assert all(access == Access() for access in accesses.values())
    facts = load_providers()["vidgo"].facts
    access = accesses["vidgo"]
    assert (access.url(facts), access.per_minute(facts), access.first_seconds(facts)) == (
        "https://api.vidgo.ai",
        facts.polls_per_minute,
        facts.first_poll_seconds,
    )
    own = Access(base_url="https://a.test", polls_per_minute=7, first_poll_seconds=0.0)
    assert (own.url(facts), own.per_minute(facts), own.first_seconds(facts)) == ("https://a.test", 7, 0.0)


def test_each_provider_has_its_own_key_address_and_pace() -> None:
    accesses = load_settings(
        {
            "VIDGO_API_KEY": "k",
            "VIDGO_FIRST_POLL_SECONDS": "0.5",
            "REAPI_BASE_URL": "http://127.0.0.1:9000/reapi/",
            "REAPI_POLLS_PER_MINUTE": "600",
        }
    ).providers
    assert (accesses["vidgo"].api_key, accesses["vidgo"].first_poll_seconds) == ("k", 0.5)
    assert accesses["reapi"].api_key is None
    assert accesses["reapi"].base_url == "http://127.0.0.1:9000/reapi"
    assert accesses["reapi"].polls_per_minute == 600


@pytest.mark.parametrize("url", ["https://proxy.internal:8443/v", "http://localhost:1", "http://[::1]:1"])
def test_a_key_may_be_sent_encrypted_or_within_this_machine(url: str) -> None:
    assert load_settings({"APIXO_BASE_URL": url}).providers["apixo"].base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.apixo.ai",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "ftp://127.0.0.1",
        "https://",
    ],
)
def test_a_key_is_not_sent_readable_over_a_network(url: str) -> None:
    problem = only_problem_of({"APIXO_BASE_URL": url})
    assert problem.startswith("APIXO_BASE_URL must be an https URL (http only on this machine, as the key")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("VIDGO_APIKEY", "VIDGO_API_KEY"),
        ("VIDGO_API_KEYS", "VIDGO_API_KEY"),
        ("REAPI_KEY", "REAPI_API_KEY"),
        ("APIXO_BASEURL", "APIXO_BASE_URL"),
        ("APIDOT_POLL_PER_MINUTE", "APIDOT_POLLS_PER_MINUTE"),
        ("RECEIVER_VIDGO_API_KEY", "VIDGO_API_KEY"),
        ("RECEIVER_PORT", "PORT"),
    ],
)
def test_a_variable_that_is_nearly_a_known_one_is_named_with_it(written: str, meant: str) -> None:
    assert only_problem_of({written: "1"}) == f"{written} is not a setting; did you mean {meant}?"


def test_variables_of_other_programs_that_use_the_same_provider_are_no_error() -> None:
    load_settings({"VIDGO_TIMEOUT": "3", "VIDGO_API_KEY_ID": "7", "VIDGO_WEBHOOK_URL": "x", "VIDGOLIKE": "x"})
    load_settings({"VIDGO_API_KEYS": "a,b", "VIDGO_API_KEY": "a"})  # not misspelt: the real one is there


def test_a_provider_of_a_third_party_has_these_variables_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pixel_farm.py").write_text(
        "from receiver.providers.reapi import Reapi\n"
        "import msgspec\n"
        "class Farm(Reapi):\n"
        "    facts = msgspec.structs.replace(Reapi.facts, name='pixel-farm', base_url='https://farm.test/')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pixel_farm", raising=False)
    working = "pixel-farm = pixel_farm:Farm\n"

    register_providers(tmp_path / "first", working + "lost-farm = no_such_module:Farm\n", monkeypatch)
    (problem,) = problems_of({"PIXEL_FARM_API_KEY": "k"})
    assert problem.startswith("provider lost-farm is registered by no_such_module:Farm")

    register_providers(tmp_path / "second", working, monkeypatch)
    farm = load_settings({"PIXEL_FARM_API_KEY": "k"}).providers["pixel-farm"]
    url = farm.url(load_providers()["pixel-farm"].facts)
    assert (farm.api_key, url) == ("k", "https://farm.test")


def register_providers(folder: Path, lines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution of this name, in front of what is installed already."""
    info = folder / "pixel_farm-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pixel-farm\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[receiver.providers]\n{lines}")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_database_of_the_host_is_taken(scheme: str) -> None:
    settings = load_settings({"DATABASE_URL": f"{scheme}://u:hidden@host/db"})
    assert settings.database_url == f"{scheme}://u:hidden@host/db"
    assert not settings.embedded


def test_a_database_of_the_host_that_this_release_cannot_use_is_explained() -> None:
    problem = only_problem_of({"DATABASE_URL": "mysql://u:hidden@host/db"})
    assert problem.startswith("DATABASE_URL: database mysql://… is not known")
    assert "set RECEIVER_DATABASE_URL=sqlite:receiver.db" in problem
    assert "hidden" not in problem


def test_our_own_database_variable_wins_over_the_hosts() -> None:
    settings = load_settings({"DATABASE_URL": "postgres://h/db", "RECEIVER_DATABASE_URL": "sqlite:mine.db"})
    assert settings.database_url == "sqlite:mine.db"


def test_an_unknown_asset_store_lists_the_known_ones() -> None:
    assert "known: file, s3" in only_problem_of({"RECEIVER_ASSETS_URL": "ftp://host/x"})


def test_a_disk_that_vanishes_is_refused_unless_told() -> None:
    assert "RECEIVER_ALLOW_EPHEMERAL=true" in only_problem_of({"DYNO": "web.1"})
    settings = load_settings({"DYNO": "web.1", "RECEIVER_ALLOW_EPHEMERAL": "true"})
    assert settings.ephemeral_disk
    assert not load_settings({}).ephemeral_disk


def test_without_sinks_there_is_one_file_in_the_data_folder() -> None:
    (sink,) = load_settings({}).sinks
    assert (sink.name, sink.url, sink.scheme) == ("jsonl", "jsonl:events.jsonl", "jsonl")
    assert sink.route.wants("vidgo", "task.failed", "anybody")


def test_each_sink_has_its_own_options() -> None:
    queue, web = load_settings(
        {
            "RECEIVER_SINK_WEB": "HTTPS://consumer.example.com/in",
            "RECEIVER_SINK_WEB_SECRET": SECRET,
            "RECEIVER_SINK_WEB_FILTER": "provider=vidgo,apixo type=task.completed owner=user-17",
            "RECEIVER_SINK_WEB_FORMAT": "Binary",
            "RECEIVER_SINK_WEB_MAX_AGE_SECONDS": "3600",
            "RECEIVER_SINK_QUEUE": "redis://127.0.0.1/0?stream=events",
        }
    ).sinks
    assert (web.name, web.url, web.secret) == ("web", "https://consumer.example.com/in", SECRET)
    assert (web.format, queue.format) == (MessageFormat.BINARY, MessageFormat.STRUCTURED)
    assert (web.max_age_seconds, web.timeout_seconds, web.concurrency) == (3600.0, 10.0, 8)
    assert web.route.wants("apixo", "task.completed", "user-17")
    assert not web.route.wants("reapi", "task.completed", "user-17")
    assert not web.route.wants("apixo", "task.failed", "user-17")
    assert (queue.name, queue.secret, queue.max_age_seconds) == ("queue", None, 86_400.0)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"RECEIVER_SINK_A_FILTER": "provider=vidgo"}, "RECEIVER_SINK_A is not set"),
        ({"RECEIVER_SINK_A_FLITER": "x", "RECEIVER_SINK_A": "jsonl:a"}, "its options are _FILTER, _ORDER"),
        (
            {"RECEIVER_SINK_A_MAX_ATTEMPTS": "5", "RECEIVER_SINK_A": "jsonl:a"},
            "what ends a notification is its age; set RECEIVER_SINK_A_MAX_AGE_SECONDS",
        ),
        ({"RECEIVER_SINK_A_B": "jsonl:a"}, "a sink's name has no underscore"),
        ({"RECEIVER_SINK_A": "jsonl:a", "RECEIVER_SINK_a": "jsonl:b"}, "name the same sink"),
        ({"RECEIVER_SINK_": "jsonl:a"}, "does not name a sink"),
        (
            {"RECEIVER_SINK_A_FORMAT": "json", "RECEIVER_SINK_A": "redis://h/0"},
            "A_FORMAT: this kind of sink gets structured, not json",
        ),
        (
            {"RECEIVER_SINK_A_FORMAT": "xml", "RECEIVER_SINK_A": "http://h/0"},
            "one of structured, json, binary",
        ),
        ({"RECEIVER_SINK_A": "no-url"}, "RECEIVER_SINK_A must be a URL"),
        ({"RECEIVER_SINK_A": "gopher://h"}, "known: jsonl, http, https, redis, rediss"),
    ],
)
def test_what_is_wrong_with_a_sink_is_named(environ: dict[str, str], said: str) -> None:
    assert said in only_problem_of(environ)


def test_the_table_for_the_manual_has_every_variable_and_no_secret_default() -> None:
    table = settings_table()
    assert all(f"| `{field.variable}` |" in table for field in ALL_FIELDS)
    assert len({line.count("|") for line in table.splitlines()}) == 1


INJECTED = {
    "RECEIVER_SERVICE_HOST": "10.96.0.7",
    "RECEIVER_SERVICE_PORT": "8080",
    "RECEIVER_SERVICE_PORT_HTTP": "8080",
    "RECEIVER_PORT": "tcp://10.96.0.7:8080",
    "RECEIVER_PORT_8080_TCP": "tcp://10.96.0.7:8080",
    "RECEIVER_PORT_8080_TCP_PROTO": "tcp",
    "RECEIVER_PORT_8080_TCP_PORT": "8080",
    "RECEIVER_PORT_8080_TCP_ADDR": "10.96.0.7",
}


def test_what_kubernetes_injects_for_a_service_of_our_name_is_passed_over() -> None:
    assert load_settings(INJECTED) == load_settings({})
    ipv6 = {"RECEIVER_SERVICE_HOST": "fd00::7", "RECEIVER_PORT": "tcp://[fd00::7]:8080"}
    assert load_settings(ipv6) == load_settings({})


def test_so_it_is_for_services_whose_names_begin_with_ours_even_like_a_sink() -> None:
    for name in ("RECEIVER_WEB", "RECEIVER_SINK_QUEUE"):
        named = {key.replace("RECEIVER", name, 1): value for key, value in INJECTED.items()}
        assert load_settings(named) == load_settings({})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RECEIVER_PORT", "8080"),
        ("RECEIVER_SERVICE_HOST", "receiver.default.svc"),
        ("RECEIVER_SERVICE_PORTS", "8080"),
        ("RECEIVER_PORT_8080", "tcp://10.96.0.7:8080"),
        ("RECEIVER_PORT_8080_TCP_PROTO", "http"),
    ],
)
def test_what_only_looks_like_it_is_still_no_setting(variable: str, text: str) -> None:
    assert only_problem_of({variable: text}).startswith(f"{variable} is not a setting")


def test_a_variable_of_a_backend_that_shares_the_environment_is_told_what_to_do() -> None:
    problem = only_problem_of({"RECEIVER_API_TOKEN": "the-token-of-a-backend"})
    assert "did you mean RECEIVER_API_TOKENS?" in problem
    assert "give it a name that does not begin with RECEIVER_" in problem
    assert "the-token-of-a-backend" not in problem


def test_idle_connections_outlast_those_of_every_router_in_front() -> None:
    heroku, go, caddy, google = 90, 90, 120, 600
    assert load_settings({}).idle_timeout_seconds > max(heroku, go, caddy, google)


def test_listening_on_every_address_of_both_families_is_reached_by_either() -> None:
    settings = load_settings({"RECEIVER_HOST": "::", "PORT": "5000"})
    assert (settings.url, settings.public_url) == ("http://127.0.0.1:5000", "http://127.0.0.1:5000")


ONE, OTHER = "Yb7nLw20-the-one-value", "Rt5mQe94-the-other-value"


@pytest.mark.parametrize(
    "names",
    [
        ("RECEIVER_SECRET", "RECEIVER_API_TOKENS"),
        ("RECEIVER_SECRET", "RECEIVER_ADMIN_TOKENS"),
        ("RECEIVER_API_TOKENS", "RECEIVER_ADMIN_TOKENS"),
        ("RECEIVER_SECRET", "RECEIVER_SINK_HOOK_SECRET"),
        ("RECEIVER_SECRET", "RECEIVER_TOKEN"),
        ("RECEIVER_ADMIN_TOKENS", "VIDGO_API_KEY"),
    ],
)
def test_secrets_of_two_kinds_that_are_equal_are_refused(names: tuple[str, str]) -> None:
    environ = {"RECEIVER_SINK_HOOK": "https://consumer.example/in", **dict.fromkeys(names, ONE)}
    with pytest.raises(Misconfigured) as caught:
        load_settings(environ)
    assert caught.value.problems == (f"{names[0]} and {names[1]} hold the same value: give each its own",)
    assert ONE not in str(caught.value)


def test_an_equal_secret_is_found_among_others_and_behind_a_name() -> None:
    environ = {"RECEIVER_API_TOKENS": f"{OTHER},shop:{ONE}@user-17", "RECEIVER_ADMIN_TOKENS": ONE}
    with pytest.raises(Misconfigured, match="RECEIVER_API_TOKENS and RECEIVER_ADMIN_TOKENS hold the same"):
        load_settings(environ)


def test_secrets_of_one_kind_may_be_equal_and_the_command_line_has_one_of_the_services() -> None:
    load_settings(
        {
            "RECEIVER_SINK_A": "https://consumer.example/a",
            "RECEIVER_SINK_A_SECRET": ONE,
            "RECEIVER_SINK_B": "https://consumer.example/b",
            "RECEIVER_SINK_B_SECRET": ONE,
            "VIDGO_API_KEY": "Kp2sVd61-an-account",
            "APIDOT_API_KEY": "Kp2sVd61-an-account",
            "RECEIVER_ADMIN_TOKENS": OTHER,
            "RECEIVER_TOKEN": OTHER,
        }
    )


def test_the_variables_with_secrets_that_can_be_guessed_are_named() -> None:
    settings = load_settings(
        {
            "RECEIVER_SECRET": f"{ONE},changemechangeme",
            "RECEIVER_API_TOKENS": OTHER,
            "RECEIVER_ADMIN_TOKENS": "boss:0123456789abcdef",
            "VIDGO_API_KEY": "1111111111111111",  # its provider's choice
        }
    )
    assert guessable_secrets(settings) == ["RECEIVER_ADMIN_TOKENS", "RECEIVER_SECRET"]


# --- with what callbacks are signed ---------------------------------------------------------------


class Signed(Vidgo):
    """A provider whose callbacks are signed in some way."""


@pytest.fixture
def vidgo_signs(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    facts = msgspec.structs.replace(Vidgo.facts, signing=request.param)
    monkeypatch.setattr(Signed, "facts", facts)
    load = plugins.load
    monkeypatch.setattr(plugins, "load", lambda kind, name: Signed if name == "vidgo" else load(kind, name))


@pytest.mark.usefixtures("vidgo_signs")
@pytest.mark.parametrize("vidgo_signs", [Signing.TEXT, Signing.BASE64], indirect=True)
def test_several_secrets_of_callbacks_count_at_a_time_and_show_nowhere() -> None:
    secrets = ("whsec_b25lIHNlY3JldCBvZiB0aGVpcnM=", "whsec_YW5vdGhlciBvbmUgb2YgdGhlaXJz")
    settings = load_settings({"VIDGO_WEBHOOK_SECRET": ", ".join(secrets)})
    assert settings.providers["vidgo"].webhook_secrets == secrets
    assert "whsec" not in repr(settings.providers["vidgo"])
    assert disclose(settings, None)["VIDGO_WEBHOOK_SECRET"] == "set"


@pytest.mark.parametrize(
    ("vidgo_signs", "environ", "problem"),
    [
        (Signing.NONE, {"VIDGO_WEBHOOK_SECRET": "x" * 16}, "of no use: Vidgo signs nothing with a secret"),
        (Signing.KEYS, {"VIDGO_WEBHOOK_SECRET": "x" * 16}, "; set VIDGO_WEBHOOK_KEYS_URL"),
        (Signing.TEXT, {"VIDGO_WEBHOOK_KEYS_URL": "https://k.test"}, "; set VIDGO_WEBHOOK_SECRET"),
        (
            Signing.BASE64,
            {"VIDGO_WEBHOOK_SECRET": "whsec_not-base64-at"},
            "must be base64, behind whsec_",
        ),
        (Signing.TEXT, {"VIDGO_WEBHOOK_SECRET": "short"}, "at least 16 printable characters"),
    ],
    indirect=["vidgo_signs"],
)
@pytest.mark.usefixtures("vidgo_signs")
def test_a_secret_that_would_check_nothing_is_refused_at_the_start(
    environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(Misconfigured) as refused:
        load_settings(environ)
    (said,) = refused.value.problems
    assert problem in said
    assert all(value not in said for value in environ.values() if "http" not in value)


def test_a_secret_of_alerts_without_anybody_to_tell_is_a_mistake() -> None:
    with pytest.raises(Misconfigured, match="RECEIVER_ALERT_SECRET is for RECEIVER_ALERT_URL"):
        load_settings({"RECEIVER_ALERT_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})


@pytest.mark.parametrize(
    "url", ["hooks.slack.com/services/T/B/x", "ftp://alerts.example", "https://", "https://a b"]
)
def test_who_is_told_of_alerts_is_a_web_address_and_not_repeated_where_it_is_none(url: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        load_settings({"RECEIVER_ALERT_URL": url})
    assert str(refused.value) == "RECEIVER_ALERT_URL must be an http(s) URL"
