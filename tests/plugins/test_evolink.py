"""Evolink: the contract."""

from typing import ClassVar

from receiver.plugins import load_providers
from receiver.ports import Provider
from tests.contracts.provider import ProviderContract


class TestEvolink(ProviderContract):
    provider: ClassVar[Provider] = load_providers()["evolink"]
    task_ids_in_samples = frozenset({"task-unified-1757156493-imcg5zqt"})

    def success(self, items: object) -> object:
        return {"id": "t", "status": "completed", "results": items}

    def failure(self, error: object) -> object:
        return {"id": "t", "status": "failed", "error": error}
