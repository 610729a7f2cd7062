"""Shares of the connections: no key, and no address without a key, shuts out the others."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tests.serving.conftest import Live, held_pipeline, live, until

from tintype.serving.api.connection import SPARE_OF_CLIENT
from tintype.serving.api.shares import Shares

KEYS = ("alpha-key-0001", "beta-key-0002")
SHARE = 3

Connect = Callable[..., http.client.HTTPConnection]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens connections to a server, from an address of this machine; all are closed at the end."""
    with ExitStack() as stack:

        def open_one(server: Live, address: str = "127.0.0.1") -> http.client.HTTPConnection:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, 20, (address, 0))
            connection.connect()
            connection.auto_open = 0
            return stack.enter_context(closing(connection))

        yield open_one


@pytest.fixture(scope="module")
def open_to_all(tiny_model: Path) -> Iterator[Live]:
    """A server without keys."""
    with live(tiny_model, max_connections_per_client=SHARE) as server:
        yield server


@pytest.fixture(scope="module")
def keyed(tiny_model: Path) -> Iterator[Live]:
    """A server with two keys."""
    with live(tiny_model, api_keys=KEYS, max_connections_per_client=SHARE) as server:
        yield server


def get(connection: http.client.HTTPConnection, path: str, key: str | None = None) -> http.client.HTTPResponse:
    connection.request("GET", path, headers={} if key is None else {"Authorization": f"Bearer {key}"})
    return connection.getresponse()


def status(connection: http.client.HTTPConnection, path: str, key: str | None = None) -> int:
    """The status of an answer, read to its end."""
    response = get(connection, path, key)
    response.read()
    return response.status


def refused(response: http.client.HTTPResponse) -> bool:
    """429 in the form of the API, with a time to come back, and the end of the connection."""
    assert response.status == 429
    assert json.loads(response.read())["error"]["code"] == "slow_down"
    assert int(response.headers["retry-after"]) >= 1
    return response.headers["connection"] == "close"


def num_connections(server: Live) -> int:
    return len(server._server.server_state.connections)


def test_event_streams_of_one_key_leave_room_for_the_others(tiny_model: Path, connect: Connect) -> None:
    pipeline, denoiser = held_pipeline(tiny_model)
    with live(tiny_model, pipeline, api_keys=KEYS, max_connections_per_client=SHARE) as server:
        denoiser.hold()
        submitting = connect(server)
        headers = {"Authorization": f"Bearer {KEYS[0]}", "Content-Type": "application/json"}
        submitting.request("POST", "/api/jobs", b'{"prompt": "a"}', headers)
        job = submitting.getresponse().headers["location"]
        submitting.close()
        until(lambda: num_connections(server) == 0)
        streams = [get(connect(server), f"{job}/events", KEYS[0]) for _ in range(SHARE)]
        assert [response.status for response in streams] == [200] * SHARE
        assert refused(get(connect(server), f"{job}/events", KEYS[0]))
        assert status(connect(server), "/api/models", KEYS[1]) == 200
        assert status(connect(server), "/liveness") == 200
        for response in streams:
            response.close()


def test_a_connection_counts_for_the_key_that_it_sent_last(keyed: Live, connect: Connect) -> None:
    connections = [connect(keyed) for _ in range(SHARE)]
    for key in (KEYS[0], KEYS[0], KEYS[1]):
        assert [status(connection, "/version", key) for connection in connections] == [200] * SHARE
    other = connect(keyed)
    assert status(other, "/version", KEYS[0]) == 200
    assert refused(get(other, "/version", KEYS[1]))
    connections[0].close()
    until(lambda: num_connections(keyed) == SHARE - 1)
    assert status(connect(keyed), "/version", KEYS[1]) == 200


def test_a_key_is_heard_beside_many_connections_of_its_address_without_one(keyed: Live, connect: Connect) -> None:
    until(lambda: num_connections(keyed) == 0)
    connections = [connect(keyed) for _ in range(SHARE + 1)]
    until(lambda: num_connections(keyed) == SHARE + 1)
    for _ in range(2):
        assert status(connections[-1], "/version", KEYS[0]) == 200
    response = get(connect(keyed), "/version")
    assert response.status == 401
    connections[0].close()
    assert status(connections[1], "/version", KEYS[0]) == 200


def test_one_address_without_a_key_leaves_room_for_the_others(open_to_all: Live, connect: Connect) -> None:
    connections = [connect(open_to_all) for _ in range(SHARE)]
    until(lambda: num_connections(open_to_all) == SHARE)
    assert refused(get(connect(open_to_all), "/version"))
    response = get(connect(open_to_all), "/liveness")  # can be asked, but the connection does not stay
    assert (response.status, response.headers["connection"]) == (200, "close")
    response.read()
    assert status(connections[0], "/version") == 200
    until(lambda: num_connections(open_to_all) == SHARE)
    connections += [connect(open_to_all) for _ in range(SPARE_OF_CLIENT)]
    until(lambda: num_connections(open_to_all) == SHARE + SPARE_OF_CLIENT)
    assert refused(get(connect(open_to_all), "/liveness"))
    try:
        elsewhere = connect(open_to_all, "127.0.0.2")
    except OSError:
        pytest.skip("this machine has one loopback address")
    assert status(elsewhere, "/version") == 200


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "192.0.2.1", False),
    ],
)
def test_addresses_of_one_client(one: str, other: str, same: bool) -> None:
    shares = Shares(1)
    shares.open(one)
    share = shares.open(other)
    assert share.excess == int(same)
    share.close()
    share.close()
    assert shares.open(other).excess == int(same)
