"""What every implementation of `fleet_ports.Sessions` has to do."""

import abc
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ocppgw.errors import OcppgwError
from ocppgw.fleet_ports import Beat, Claim, Held, NodeRow, SessionRow, Sessions
from ocppgw.ocpp.timestamps import rfc3339

NOW = 1_795_593_600.0  # 2026-11-25T08:00:00Z
SECONDS_OF_2020 = 1_577_836_800
SESSION_TTL, SESSION_STALE, NODE_TTL, NODE_REFRESH = 1800.0, 900.0, 120.0, 30.0
MANY = 450  # more than go into one step


class Fleet(Protocol):
    """What nodes share, empty at first. `clock` is what the nodes go by."""

    clock: Clock

    def node(self, node_id: str, incarnation: str) -> Sessions:
        """Another process, not announced."""

    def wait(self, deferred: "Deferred[Any]") -> Any: ...
    def forget(self) -> None:
        """It loses all its data."""

    def forget_node(self, node_id: str) -> None:
        """The node's time to live is over."""

    def write_session(self, members: Mapping[str, Any], charge_point_id: str = "CP-1") -> None:
        """As the existing gateway, or a person, writes it."""

    def write_node(self, row: NodeRow) -> None: ...


class Node:
    """A node of the fleet, announced. What it asks is answered at once; `row` is a connection's session."""

    def __init__(self, fleet: Fleet, node_id: str = "node-a", incarnation: str = "1") -> None:
        self.fleet, self.node_id = fleet, node_id
        self.sessions = fleet.node(node_id, incarnation)
        fleet.wait(self.sessions.announce())

    def row(self, charge_point_id: str = "CP-1", epoch: int = 0, station_id: str = "station-1") -> SessionRow:
        now = self.fleet.clock.seconds()
        at, at_ms = rfc3339(now).decode(), int(now * 1000)
        return SessionRow(charge_point_id, "1.6J", self.node_id, station_id, "tenant-1", at, at_ms, at, at_ms, epoch)

    def ask(self, over: int = 0, charge_point_id: str = "CP-1") -> Claim | Held:
        answer: Claim | Held = self.fleet.wait(self.sessions.claim(self.row(charge_point_id), over))
        return answer

    def claim(self, over: int = 0, charge_point_id: str = "CP-1") -> Claim:
        answer = self.ask(over, charge_point_id)
        assert isinstance(answer, Claim), answer
        return answer

    def held(self, over: int = 0) -> Held:
        answer = self.ask(over)
        assert isinstance(answer, Held), answer
        return answer

    def refresh(self, *epochs: int) -> list[Claim]:
        return list(self.fleet.wait(self.sessions.refresh([self.row(epoch=epoch) for epoch in epochs])))

    def release(self, *claims: Claim) -> None:
        self.fleet.wait(self.sessions.release(claims))

    def beat(self) -> Beat:
        beat: Beat = self.fleet.wait(self.sessions.beat())
        return beat

    def retire(self) -> None:
        self.fleet.wait(self.sessions.retire())

    def owner(self, charge_point_id: str = "CP-1") -> tuple[SessionRow, NodeRow | None] | None:
        owner: tuple[SessionRow, NodeRow | None] | None = self.fleet.wait(self.sessions.owner(charge_point_id))
        return owner

    def all_sessions(self) -> dict[str, SessionRow]:
        return dict(self.fleet.wait(self.sessions.sessions()))

    def node_ids(self) -> list[str]:
        return sorted(row.node_id for row in self.fleet.wait(self.sessions.nodes()))


def by_hand(node_id: str = "node-b", epoch: int = 3, seen: float = NOW) -> dict[str, Any]:
    """A session as the existing gateway writes it: it knows no incarnations."""
    at, at_ms = rfc3339(seen).decode(), int(seen * 1000)
    return {
        "chargePointId": "CP-1",
        "ocppVersion": "1.6J",
        "nodeId": node_id,
        "stationId": "station-1",
        "tenantId": "tenant-1",
        "connectedAt": at,
        "connectedAtMs": at_ms,
        "lastSeenAt": at,
        "lastSeenAtMs": at_ms,
        "epoch": epoch,
    }


def reference_node(node_id: str = "node-b", incarnation: str = "") -> NodeRow:
    at = rfc3339(NOW).decode()
    return NodeRow(node_id, f"commands.{node_id}", f"control.{node_id}", at, at, incarnation)


class SessionsContract(abc.ABC):
    """Mix into a `SynchronousTestCase`, and give `build()`."""

    @abc.abstractmethod
    def build(self) -> Fleet:
        """With the durations above; whatever it leaves running is cleaned up with the test."""

    def setUp(self) -> None:
        self.fleet = self.build()
        self.here, self.there = Node(self.fleet), Node(self.fleet, "node-b")

    def assert_lost(self, beat: Beat, *claims: Claim) -> None:
        assert [(lost.charge_point_id, lost.epoch) for lost in beat.lost] == [
            (claim.charge_point_id, claim.epoch) for claim in claims
        ]

    # --- claims

    def test_a_station_that_nobody_has_is_granted(self) -> None:
        claim = self.here.claim()
        assert claim == Claim("CP-1", claim.epoch)
        assert claim.epoch > NOW - SECONDS_OF_2020
        assert self.here.owner() == (self.here.row(epoch=claim.epoch), self.node_row("node-a"))

    def node_row(self, node_id: str) -> NodeRow:
        [row] = [row for row in self.fleet.wait(self.here.sessions.nodes()) if row.node_id == node_id]
        assert isinstance(row, NodeRow)
        return row

    def test_what_it_says_of_its_own_epoch_is_not_looked_at(self) -> None:
        wanted = self.here.row(epoch=2**40)
        claim = self.fleet.wait(self.here.sessions.claim(wanted))
        assert claim.epoch < 2**40
        assert self.here.all_sessions()["CP-1"].epoch == claim.epoch

    def test_the_own_station_is_granted_again_with_a_newer_epoch(self) -> None:
        first, second = self.here.claim(), self.here.claim()
        assert second.epoch > first.epoch
        assert second.taken_from is None
        assert self.here.beat() == Beat()

    def test_the_station_of_another_node_is_held(self) -> None:
        claim = self.here.claim()
        held = self.there.held()
        assert held == Held(self.here.row(epoch=claim.epoch), self.node_row("node-a"), is_stale=False)
        assert self.here.beat() == Beat()
        assert self.here.refresh(claim.epoch) == []

    def test_stations_are_apart(self) -> None:
        self.here.claim()
        assert self.there.claim(charge_point_id="CP-2").taken_from is None

    def test_a_challenged_epoch_is_taken_over(self) -> None:
        old = self.here.claim()
        new = self.there.claim(over=old.epoch)
        assert new.epoch > old.epoch
        assert new.taken_from == self.node_row("node-a")
        self.assert_lost(self.here.beat(), new)
        assert self.here.owner() == (self.there.row(epoch=new.epoch), self.node_row("node-b"))

    def test_only_the_challenged_epoch_is_taken_over(self) -> None:
        old = self.here.claim()
        newer = self.here.claim()
        assert self.there.held(over=old.epoch).session.epoch == newer.epoch
        assert self.there.held(over=newer.epoch + 1).session.epoch == newer.epoch
        self.fleet.write_session(by_hand("node-a", epoch=0))
        assert self.there.held(over=0).session.epoch == 0

    def test_a_stale_session_is_taken_over(self) -> None:
        old = self.here.claim()
        for _ in range(int(SESSION_STALE / NODE_REFRESH)):
            self.fleet.clock.advance(NODE_REFRESH)
            assert self.here.beat() == self.there.beat() == Beat()
        assert self.there.held().session.epoch == old.epoch
        self.fleet.clock.advance(0.002)
        new = self.there.claim()
        assert new.taken_from == self.node_row("node-a")
        assert new.epoch > old.epoch
        self.assert_lost(self.here.beat(), new)

    def test_a_refreshed_session_is_not_stale(self) -> None:
        claim = self.here.claim()
        for _ in range(3):
            self.fleet.clock.advance(SESSION_STALE / 2)
            self.here.beat()
            assert self.here.refresh(claim.epoch) == []
        assert self.there.held().session == self.here.row(epoch=claim.epoch)

    def test_the_station_of_a_dead_node_is_taken_at_once(self) -> None:
        old = self.here.claim()
        self.fleet.forget_node("node-a")
        new = self.there.claim()
        assert new == Claim("CP-1", new.epoch)
        assert new.epoch > old.epoch

    def test_a_node_that_only_seemed_dead_hears_of_its_loss_with_its_first_beat(self) -> None:
        self.here.claim()
        self.fleet.forget_node("node-a")
        new = self.there.claim()
        beat = self.here.beat()
        self.assert_lost(beat, new)
        assert beat.was_forgotten

    def test_the_station_of_an_earlier_process_is_taken_at_once(self) -> None:
        old = self.here.claim()
        Node(self.fleet, "node-a", "2")
        new = self.there.claim()
        assert new == Claim("CP-1", new.epoch)
        assert new.epoch > old.epoch

    def test_a_process_takes_its_predecessors_stations(self) -> None:
        old = self.here.claim()
        restarted = Node(self.fleet, "node-a", "2")
        new = restarted.claim()
        assert new == Claim("CP-1", new.epoch)
        assert new.epoch > old.epoch
        assert restarted.beat() == Beat()
        assert self.there.held().session.epoch == new.epoch

    def test_a_claim_goes_before_the_announcement(self) -> None:
        early = self.fleet.node("node-c", "1")
        self.fleet.wait(early.claim(self.here.row()))
        assert self.there.node_ids() == ["node-a", "node-b", "node-c"], "else it would be a dead node's"

    # --- epochs

    def test_epochs_grow_over_release(self) -> None:
        epochs = []
        for node in (self.here, self.there, self.here):
            claim = node.claim()
            epochs.append(claim.epoch)
            node.release(claim)
        assert epochs == sorted(set(epochs))

    def test_epochs_grow_over_the_loss_of_all_data(self) -> None:
        for _ in range(3):
            old = self.here.claim()
        self.fleet.forget()
        self.fleet.clock.advance(3.0)
        new = self.there.claim()
        assert new.epoch > old.epoch
        self.assert_lost_by_refresh(old, new)

    def assert_lost_by_refresh(self, old: Claim, new: Claim) -> None:
        assert self.here.refresh(old.epoch) == [Claim("CP-1", new.epoch)]
        assert self.here.all_sessions()["CP-1"] == self.there.row(epoch=new.epoch)

    def test_epochs_grow_over_a_failover_to_a_replica_that_lags(self) -> None:
        old = self.here.claim()
        self.fleet.clock.advance(100.0)
        lost = self.there.claim(over=old.epoch)
        before = msgspec.to_builtins(self.here.row(epoch=old.epoch))
        self.fleet.forget()
        Node(self.fleet, "node-a")
        self.fleet.write_session({**before, "incarnation": "1"})
        self.fleet.clock.advance(1.0)
        assert self.here.claim().epoch > lost.epoch

    def test_epochs_go_on_where_they_are_ahead_of_time(self) -> None:
        ahead = int(NOW)
        assert self.here.refresh(ahead) == []
        assert self.here.claim().epoch == ahead + 1
        assert self.there.claim(over=ahead + 1).epoch == ahead + 2

    # --- release

    def test_what_is_released_is_free(self) -> None:
        claim = self.here.claim()
        self.here.release(claim)
        assert self.here.owner() is None
        new = self.there.claim()
        assert new.epoch > claim.epoch
        assert new.taken_from is None

    def test_only_the_own_epoch_is_released(self) -> None:
        old = self.here.claim()
        new = self.here.claim()
        self.here.release(old)
        self.there.release(new)
        self.here.release(Claim("CP-2", 1))
        assert self.here.all_sessions()["CP-1"].epoch == new.epoch

    def test_many_are_released_at_once(self) -> None:
        claims = [self.here.claim(charge_point_id=f"CP-{number}") for number in range(MANY)]
        self.here.release(*claims)
        assert self.here.all_sessions() == {}

    # --- refresh

    def test_refreshing_shows_when_the_station_was_seen(self) -> None:
        claim = self.here.claim()
        before = self.here.row(epoch=claim.epoch)
        self.fleet.clock.advance(60.0)
        now = self.here.row()
        seen = msgspec.structs.replace(before, last_seen_at=now.last_seen_at, last_seen_at_ms=now.last_seen_at_ms)
        assert list(self.fleet.wait(self.here.sessions.refresh([seen]))) == []
        assert self.here.all_sessions() == {"CP-1": seen}

    def test_a_claim_that_is_missing_is_put_back(self) -> None:
        claim = self.here.claim()
        self.fleet.forget()
        assert self.here.beat() == Beat((), was_forgotten=True)
        self.there.beat()
        assert self.here.refresh(claim.epoch) == []
        assert self.there.held().session == self.here.row(epoch=claim.epoch)
        assert self.fleet.wait(self.there.sessions.station("station-1")) == "CP-1"
        assert self.there.claim(over=claim.epoch).epoch > claim.epoch

    def test_what_another_node_holds_is_reported(self) -> None:
        old = self.here.claim()
        new = self.there.claim(over=old.epoch)
        self.assert_lost_by_refresh(old, new)
        self.assert_lost_by_refresh(old, new)

    def test_what_was_taken_and_given_back_since_is_reported_too(self) -> None:
        old = self.here.claim()
        new = self.there.claim(over=old.epoch)
        self.there.release(new)
        assert self.here.refresh(old.epoch) == [Claim("CP-1", new.epoch)]
        assert self.here.owner() is None

    def test_what_a_later_process_of_the_same_node_holds_is_reported(self) -> None:
        old = self.here.claim()
        new = Node(self.fleet, "node-a", "2").claim()
        assert self.here.refresh(old.epoch) == [Claim("CP-1", new.epoch)]

    def test_an_older_connection_to_the_same_node_changes_nothing(self) -> None:
        old = self.here.claim()
        new = self.here.claim()
        self.fleet.clock.advance(10.0)
        assert self.here.refresh(old.epoch) == []
        assert self.here.all_sessions()["CP-1"].epoch == new.epoch

    def test_a_claim_made_without_the_fleet_counts_when_it_is_the_newest(self) -> None:
        """An admission while Redis was away; or Redis lost the claim in a failover."""
        old = self.here.claim()
        self.fleet.clock.advance(10.0)
        newer = old.epoch + 10
        assert self.there.refresh(newer) == []
        self.assert_lost(self.here.beat(), Claim("CP-1", newer))
        assert self.here.all_sessions()["CP-1"] == self.there.row(epoch=newer)
        assert self.here.refresh(old.epoch) == [Claim("CP-1", newer)]

    def test_a_claim_made_without_the_fleet_yields_to_a_later_one(self) -> None:
        unclaimed = int(NOW) - SECONDS_OF_2020
        self.fleet.clock.advance(1.0)
        claim = self.there.claim()
        assert self.here.refresh(unclaimed) == [Claim("CP-1", claim.epoch)]

    def test_of_two_claims_with_the_same_epoch_one_is_lost(self) -> None:
        assert self.here.refresh(7) == []
        [lost] = self.there.refresh(7)
        assert lost.epoch > 7, "else who hears of it would not take it for lost"
        assert self.here.refresh(7) == []

    def test_many_are_refreshed_at_once_and_only_the_lost_are_reported(self) -> None:
        rows = []
        for number in range(MANY):
            claim = self.here.claim(charge_point_id=f"CP-{number}")
            rows.append(self.here.row(f"CP-{number}", claim.epoch))
        new = self.there.claim(over=rows[7].epoch, charge_point_id="CP-7")
        last = self.there.claim(over=rows[-1].epoch, charge_point_id=f"CP-{MANY - 1}")
        lost = self.fleet.wait(self.here.sessions.refresh(rows))
        assert [(claim.charge_point_id, claim.epoch) for claim in lost] == [
            ("CP-7", new.epoch),
            (f"CP-{MANY - 1}", last.epoch),
        ]
        assert list(self.fleet.wait(self.here.sessions.refresh([]))) == []

    # --- beats

    def test_a_beat_brings_losses_once(self) -> None:
        first = self.here.claim()
        other = self.here.claim(charge_point_id="CP-2")
        taken = [self.there.claim(first.epoch), self.there.claim(other.epoch, "CP-2")]
        self.assert_lost(self.here.beat(), *taken)
        assert self.here.beat() == Beat()
        assert self.there.beat() == Beat()

    def test_a_beat_brings_every_loss_however_many_there_are(self) -> None:
        names = [f"CP-{number}" for number in range(1500)]
        for name in names:
            self.here.claim(charge_point_id=name)
        self.fleet.forget_node("node-a")
        for name in names:
            self.there.claim(charge_point_id=name)
        assert [lost.charge_point_id for lost in self.here.beat().lost] == names

    def test_a_beat_keeps_the_node_alive(self) -> None:
        for _ in range(10):
            self.fleet.clock.advance(NODE_REFRESH)
            assert self.here.beat() == Beat()
        assert self.node_row("node-a").last_seen_at == rfc3339(self.fleet.clock.seconds()).decode()
        assert self.node_row("node-a").started_at == rfc3339(NOW).decode()

    def test_a_beat_tells_that_the_fleet_forgot_the_node_and_writes_it_again(self) -> None:
        self.fleet.forget()
        assert self.here.beat() == Beat((), was_forgotten=True)
        assert self.here.beat() == Beat()
        assert self.there.node_ids() == ["node-a"]

    def test_a_beat_before_the_announcement_announces(self) -> None:
        self.here.claim()
        early = self.fleet.node("node-a", "2")
        assert self.fleet.wait(early.beat()) == Beat()
        assert self.node_row("node-a").incarnation == "2"

    def test_two_processes_with_one_node_id_are_told_so(self) -> None:
        second = Node(self.fleet, "node-a", "2")
        for call in (self.here.beat, self.here.claim):
            with self.assertRaisesRegex(OcppgwError, "NODE_ID 'node-a'") as caught:  # type: ignore[attr-defined]
                call()
            assert caught.exception.code == "NodeIdTaken"
        assert second.beat() == Beat()
        assert second.claim().epoch

    # --- the end

    def test_a_node_that_ends_is_gone(self) -> None:
        self.here.claim()
        self.here.retire()
        assert self.there.node_ids() == ["node-b"]
        assert self.there.claim().taken_from is None

    def test_a_node_that_ends_leaves_its_successor_alone(self) -> None:
        Node(self.fleet, "node-a", "2")
        self.here.retire()
        assert self.node_row("node-a").incarnation == "2"

    def test_losses_of_an_earlier_process_are_not_its_successors(self) -> None:
        old = self.here.claim()
        self.there.claim(over=old.epoch)
        assert Node(self.fleet, "node-a", "2").beat() == Beat()

    # --- who has what

    def test_the_owner_whose_node_is_dead(self) -> None:
        claim = self.here.claim()
        row = self.here.row(epoch=claim.epoch)
        self.fleet.forget_node("node-a")
        assert self.there.owner() == (row, None)
        Node(self.fleet, "node-a", "2")
        assert self.there.owner() == (row, None)
        assert self.there.owner("CP-2") is None

    def test_a_station_is_found_by_its_station_id(self) -> None:
        station = self.there.sessions.station
        assert self.fleet.wait(station("station-1")) is None
        claim = self.here.claim()
        assert self.fleet.wait(station("station-1")) == "CP-1"
        self.here.release(claim)
        assert self.fleet.wait(station("station-1")) == "CP-1"
        self.here.claim(charge_point_id="CP-2")
        assert self.fleet.wait(station("station-1")) == "CP-2"

    def test_of_some_nodes_those_that_live(self) -> None:
        found = self.fleet.wait(self.here.sessions.living({"node-a", "nobody"}))
        assert [row.node_id for row in found] == ["node-a"]
        assert list(self.fleet.wait(self.here.sessions.living(()))) == []

    def test_all_sessions_and_nodes_are_listed(self) -> None:
        epochs = {f"CP-{number}": self.here.claim(charge_point_id=f"CP-{number}").epoch for number in range(MANY)}
        epochs["CP-x"] = self.there.claim(charge_point_id="CP-x").epoch
        found = self.here.all_sessions()
        assert {name: row.epoch for name, row in found.items()} == epochs
        assert found["CP-x"].node_id == "node-b"
        assert self.here.node_ids() == ["node-a", "node-b"]

    # --- beside the existing gateway

    def test_its_session_is_held_while_its_node_lives(self) -> None:
        self.fleet.write_session(by_hand("node-r"))
        self.fleet.write_node(reference_node("node-r"))
        held = self.here.held()
        assert held.session == msgspec.convert(by_hand("node-r"), SessionRow)
        assert held.node == reference_node("node-r")
        new = self.here.claim(over=3)
        assert new.epoch > 3
        assert new.taken_from == reference_node("node-r")

    def test_its_session_without_a_node_is_free(self) -> None:
        self.fleet.write_session(by_hand("node-r", epoch=2**31))
        assert self.here.owner() == (msgspec.convert(by_hand("node-r", epoch=2**31), SessionRow), None)
        assert self.here.claim() == Claim("CP-1", 2**31 + 1)

    def test_its_stale_session_is_free(self) -> None:
        self.fleet.write_session(by_hand("node-r", seen=NOW - SESSION_STALE - 1))
        self.fleet.write_node(reference_node("node-r"))
        assert self.here.claim().taken_from == reference_node("node-r")

    def test_any_process_of_the_node_has_a_session_without_incarnation(self) -> None:
        self.fleet.write_session(by_hand("node-b"))
        assert self.here.held().node == self.node_row("node-b")
        assert self.there.claim().taken_from is None

    def test_its_session_is_reported_as_lost_however_small_its_epoch(self) -> None:
        claim = self.here.claim()
        self.fleet.write_session(by_hand("node-r", epoch=1))
        self.fleet.write_node(reference_node("node-r"))
        [lost] = self.here.refresh(claim.epoch)
        assert lost.epoch > claim.epoch
        assert self.there.all_sessions()["CP-1"].node_id == "node-r"

    def test_the_session_of_a_process_whose_node_is_the_existing_gateway_now_is_free(self) -> None:
        self.here.claim()
        self.fleet.write_node(reference_node("node-a"))
        assert self.there.claim().taken_from is None
