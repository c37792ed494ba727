"""openapi.json, written from the endpoints that the app is assembled from and their types."""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

import receiver
from receiver.models import Receipt
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.problems import CONTENT_TYPE as PROBLEM_TYPE
from receiver.web.problems import Problem

SchemaOf = dict[object, Any]  # from a type to the reference that stands for it

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
_REFERENCE = "#/components/schemas/{name}"

_SECURITY: dict[Audience, list[dict[str, list[str]]]] = {
    Audience.ANYONE: [],
    Audience.BACKEND: [{"backend": []}, {"admin": []}],
    Audience.ADMIN: [{"admin": []}],
    Audience.LINK: [{"backend": []}, {"admin": []}, {"link": []}],
    Audience.SETTING: [{}, {"admin": []}],
}

_SCHEMES = {
    "backend": {"type": "http", "scheme": "bearer", "description": "One of RECEIVER_API_TOKENS."},
    "admin": {"type": "http", "scheme": "bearer", "description": "One of RECEIVER_ADMIN_TOKENS."},
    "link": {
        "type": "apiKey",
        "in": "query",
        "name": "signature",
        "description": "With expires: the signed link that notifications carry.",
    },
}

# Not an Endpoint: callbacks are answered by a bare ASGI callable.
_CALLBACK_REFUSALS = (400, 401, 404, 405, 408, 409, 413, 415, 503)


def document(endpoints: Sequence[Endpoint[Any]]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these endpoints and of the providers' door."""
    # Every type that is taken or given, once, in the order of the table.
    used = (kind for each in endpoints for kind in (each.takes, *each.gives.values()))
    types = [*dict.fromkeys(kind for kind in used if isinstance(kind, type)), Receipt, Problem]
    references, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schema_of: SchemaOf = dict(zip(types, references, strict=True))
    paths: dict[str, Any] = {
        "/callbacks/{provider}": {"post": _callback(schema_of)},
        "/callbacks/{provider}/{token}": {"post": _callback(schema_of, "token")},
    }
    for endpoint in endpoints:
        operations = paths.setdefault(plain_path(endpoint.path), {})
        operations[endpoint.method.lower()] = _operation(endpoint, schema_of, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "receiver", "version": receiver.__version__},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }


def plain_path(path: str) -> str:
    """A path without Starlette's converters."""
    return _PARAMETER.sub(r"{\1}", path)


def _operation(endpoint: Endpoint[Any], schema_of: SchemaOf, components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": f"{endpoint.answer.__module__.rpartition('.')[2]}_{endpoint.answer.__name__}",
        "security": _SECURITY[endpoint.audience],
        # Endpoints take them all as text; which are numbers is said by name.
        "parameters": [
            _path_parameter(name, "integer" if name == "index" else "string")
            for name in _PARAMETER.findall(endpoint.path)
        ]
        + [
            {"name": name, "in": "header", "description": words, "schema": {"type": "string"}}
            for name, words in endpoint.headers.items()
        ],
        "responses": {
            **{str(status): _given(status, kind, schema_of) for status, kind in endpoint.gives.items()},
            **_refusals(endpoint.refuses, schema_of),
        },
    }
    if endpoint.method == "GET":
        parameters = []
        for name, kind in components[endpoint.takes.__name__]["properties"].items():
            parameter = {"name": name, "in": "query", "required": False, "schema": kind}
            if kind.get("type") == "object":  # given one by one; OpenAPI has no style for it
                keys = "KEY stands for a key of the object; it may come with several."
                parameter |= {
                    "name": f"{name}.KEY",
                    "description": keys,
                    "schema": kind["additionalProperties"],
                }
            parameters.append(parameter)
        operation["parameters"] += parameters
    elif endpoint.takes is not Nothing:
        content = {"application/json": {"schema": schema_of[endpoint.takes]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _callback(schema_of: SchemaOf, *tokens: str) -> dict[str, Any]:
    names = ("provider", *tokens)
    return {
        "summary": "Take a provider's callback",
        "operationId": "_".join(("callbacks", *names)),
        "security": [],
        "parameters": [_path_parameter(name, "string") for name in names],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}},
        "responses": {
            "200": _given(200, Receipt, schema_of),
            **_refusals(_CALLBACK_REFUSALS, schema_of),
        },
    }


def _given(status: int, kind: type | str | None, schema_of: SchemaOf) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(kind, str):
        answer["content"] = {kind: {}}
    elif kind is not None:
        answer["content"] = {"application/json": {"schema": schema_of[kind]}}
    return answer


def _refusals(statuses: Iterable[int], schema_of: SchemaOf) -> dict[str, Any]:
    content = {PROBLEM_TYPE: {"schema": schema_of[Problem]}}
    return {
        str(status): {"description": HTTPStatus(status).phrase, "content": content} for status in statuses
    }


def _path_parameter(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": kind}}
