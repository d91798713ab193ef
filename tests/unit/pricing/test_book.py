"""Which price answers."""

from __future__ import annotations

from headframe.pricing.book import Book, Buyer, default_prices
from headframe.pricing.records import Price


def test_the_most_specific_price_wins() -> None:
    book = Book(
        [
            Price("a", "gpu:*", 1, from_us=0),
            Price("b", "gpu:H100", 2, from_us=0),
            Price("c", "gpu:H100", 3, from_us=0, purchase="spot"),
            Price("d", "gpu:H100", 4, from_us=0, region_id="north"),
            Price("e", "gpu:*", 5, from_us=0, region_id="north", purchase="spot"),
            Price("f", "gpu:H100", 6, from_us=0, currency="EUR"),
        ]
    )

    def find(kind: str, region: str, purchase: str, currency: str = "USD") -> str | None:
        offer = book.find(f"gpu:{kind}", Buyer("org_1", currency, region, purchase), 10)
        return offer.price.id if offer else None

    assert find("L4", "south", "on-demand") == "a"
    assert find("H100", "south", "on-demand") == "b"
    assert find("H100", "south", "spot") == "c"
    assert find("H100", "north", "spot") == "d"  # the region counts for more than the kind of purchase
    assert find("L4", "north", "spot") == "e"
    assert find("H100", "south", "spot", "EUR") == "f"
    assert find("H100", "south", "spot", "CNY") is None
    assert book.find("cpu", Buyer("org_1", "USD", "south", "spot"), 10) is None


def test_prices_take_turns_in_time() -> None:
    book = Book(
        [
            Price("list", "cpu", 100, from_us=10),
            Price("sale", "cpu", 50, from_us=20, to_us=30),
            Price("new", "cpu", 120, from_us=40),
            Price("same moment, set later", "cpu", 130, from_us=40),
        ]
    )
    assert book.find("cpu", Buyer(), 9) is None
    pieces = [
        (start, stop, offer.price.id if offer else "") for start, stop, offer in book.pieces("cpu", Buyer(), 5, 50)
    ]
    assert pieces == [
        (5, 10, ""),
        (10, 20, "list"),
        (20, 30, "sale"),
        (30, 40, "list"),
        (40, 50, "same moment, set later"),
    ]
    assert book.next_change_us(30) == 40
    assert book.next_change_us(40) is None


def test_the_list_of_a_new_cloud_prices_everything_that_can_be_held() -> None:
    book = Book(default_prices(5))
    assert len({price.id for price in book.prices}) == len(book.prices)
    for meter in ("cpu", "memory", "disk", "gpu:H100", "gpu:something new"):
        price = book.find(meter, Buyer(region_id="anywhere"), 5)
        assert price is not None
        assert price.unit_nano > 0
