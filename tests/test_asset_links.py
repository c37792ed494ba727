"""Links to stored files, in each of their three forms; those that a bucket signs are in ``test_s3_blobs``."""

import msgspec

from receiver.asset_keys import asset_key
from receiver.asset_links import PublicLinks, SignedLinks
from receiver.testing import TurnableClock
from receiver.tokens import Tokens
from tests.support.factories import NOW
from tests.support.messages import failed_asset, stored_asset

SECRET = "a secret of some length"


async def test_links_are_signed_and_die_a_while_after_the_notification_was_made() -> None:
    tokens = Tokens([SECRET])
    maker = SignedLinks(tokens, "https://receiver.example/", life_seconds=60, clock=TurnableClock(NOW))
    made = await maker.links("vidgo", "a/b c?", [stored_asset(2), failed_asset(3)], NOW)
    expires = int(NOW.timestamp()) + 60
    signature = tokens.sign_link("vidgo", "a/b c?", 2, expires)
    link = f"https://receiver.example/assets/vidgo/a%2Fb%20c%3F/2?expires={expires}&signature={signature}"
    assert made == {2: link}


async def test_the_links_of_a_notification_that_is_sent_late_still_live_for_half_their_life() -> None:
    clock = TurnableClock(NOW)
    maker = SignedLinks(Tokens([SECRET]), "https://receiver.example", life_seconds=60, clock=clock)

    async def life_left() -> tuple[str, float]:
        made = (await maker.links("vidgo", "t1", [stored_asset(0)], NOW))[0]
        return made, int(made.partition("expires=")[2].partition("&")[0]) - clock.now().timestamp()

    links = []
    for _ in range(20):
        made, left = await life_left()
        assert 30 < left <= 60
        links.append(made)
        clock.turn(10)

    # Those in between are the same bytes.
    assert len(set(links)) == 7
    clock.turn(-1000)
    assert (await life_left())[0] == links[0]


async def test_a_public_link_is_the_key_behind_the_address_as_a_server_of_files_reads_it() -> None:
    key = asset_key("vidgo", "a/b c?", 0, "png")
    asset = msgspec.structs.replace(stored_asset(0), key=key)
    made = await PublicLinks("https://cdn.example/images/").links("vidgo", "a/b c?", [asset], NOW)
    assert made == {0: "https://cdn.example/images/vidgo/a%252Fb%2520c%253F/0.png"}
