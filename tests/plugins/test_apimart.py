"""APIMart: the contract, and links as text and as a list."""

from typing import ClassVar

from receiver.plugins import load_providers
from receiver.ports import Provider
from tests.contracts.provider import ProviderContract


class TestApimart(ProviderContract):
    provider: ClassVar[Provider] = load_providers()["apimart"]
    task_ids_in_samples = frozenset({"task_01KA040M0HP1GJWBJYZMKX1XS1", "task-unified-1757156493-k9m2xpvw"})

    def success(self, items: object) -> object:
        return {"code": 200, "data": {"id": "t", "status": "completed", "result": {"images": items}}}

    def failure(self, error: object) -> object:
        return {"code": 200, "data": {"id": "t", "status": "failed", "error": error}}

    def test_links_are_read_as_text_and_as_a_list(self) -> None:
        links = ["https://m.test/0.png", "https://m.test/1.png"]
        items: tuple[tuple[object, list[str]], ...] = ((links, links), (links[0], links[:1]))
        for given, expected in items:
            report = self.provider.parse(self.success([{"url": given, "expires_at": 1763174708}]))
            assert [file.url for file in report.files] == expected
