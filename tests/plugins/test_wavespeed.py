"""WaveSpeed: the contract, and a scheme that looks like Standard Webhooks."""

from typing import ClassVar

import pytest

from receiver.models import ReportState, SigningKeys
from receiver.ports import Provider
from receiver.providers.wavespeed import Wavespeed
from tests.contracts.provider import ProviderContract
from tests.support.signatures import (
    BY_SECRETS,
    OLD_SECRET,
    SECRET,
    callback,
    forgeries,
    standard,
    wavespeed,
)


class TestWavespeed(ProviderContract):
    provider: ClassVar[Provider] = Wavespeed()
    task_ids_in_samples = frozenset({"45b392b22c3b449fa935bd4dc"})

    def success(self, items: object) -> object:
        return {"id": "t", "status": "completed", "outputs": items, "error": ""}

    def failure(self, error: object) -> object:
        return {"id": "t", "status": "failed", "outputs": [], "error": error}

    def test_an_empty_error_is_none(self) -> None:
        report = self.provider.parse({"id": "t", "status": "failed", "error": ""})
        assert (report.state, report.error_message) == (ReportState.FAILED, None)

    def test_the_known_answer_passes(self) -> None:
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": "1758798328",
            "webhook-signature": "v3,94b5d72172d188e1bff37067dbf09b0c0812674dc365baa4706ffe1736f766f6",
        }
        keys = SigningKeys(secrets=("example-secret",))
        assert self.provider.verify(callback(headers, b'{"test": 2432232314}'), keys)
        assert self.provider.verify(
            callback(headers, b'{"test": 2432232314}'), SigningKeys(secrets=("whsec_example-secret",))
        )

    @pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
    def test_what_is_signed_with_either_secret_passes(self, secret: str) -> None:
        assert self.provider.verify(callback(wavespeed(b"{}", secret), b"{}"), BY_SECRETS)

    def test_no_forgery_passes_and_neither_does_the_scheme_of_another_with_the_same_headers(self) -> None:
        body = self.samples()["wavespeed-callback-completed-image"]
        for forged in forgeries(wavespeed(body), body):
            assert not self.provider.verify(forged, BY_SECRETS), forged
        assert not self.provider.verify(callback(standard(body), body), BY_SECRETS)
        decoded = standard(body)["webhook-signature"]
        assert not self.provider.verify(
            callback({**standard(body), "webhook-signature": decoded.replace("v1", "v3")}, body), BY_SECRETS
        )
