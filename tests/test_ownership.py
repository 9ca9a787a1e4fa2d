"""One socket serves a station, whatever nodes do: claims, the live challenge, fencing, a process that was paused."""

import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.refusals import Reason, Refused
from ocppgw.errors import StoreError
from ocppgw.fleet_ports import Claim
from ocppgw.ocpp.rules import StationFacts
from ocppgw.ocpp.versions import V16
from ocppgw.routing import lease
from ocppgw.routing.claims import GHOST_SECONDS
from ocppgw.routing.lease import GAP_SECONDS
from ocppgw.routing.ownership import ASKED_SECONDS, SERVE_AFTER_SECONDS
from tests.build_fleet import Peer, World
from tests.memory_sessions import MemorySessions

STATION = StationFacts("CP-1", "station-1", "tenant-1")


class FleetCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()
        self.station = self.world.station()
        self.here, self.there = self.world.node("a"), self.world.node("b")
        self.world.advance(1.0)

    def connect(self, node: Any, seconds: float = 0.0) -> Any:
        """Claim or Refused; fails when it is not decided after so many seconds."""
        decided = self.station.connect(node)
        self.world.advance(seconds)
        return self.successResultOf(decided)

    def answering(self) -> list[str]:
        """The nodes that answer a message of the station now."""
        del self.world.answers[:]
        self.station.send()
        self.world.advance(0.05)
        return [node for _, _, node in self.world.answers]


class TwoNodes(FleetCase):
    def test_a_station_that_connects_is_known_to_all(self) -> None:
        claim = self.connect(self.here)
        row = self.world.fleet.sessions()["CP-1"]
        self.assertEqual((row.node_id, row.epoch, row.ocpp_version), ("a", claim.epoch, "1.6J"))
        self.assertEqual(self.answering(), ["a"])

    def test_a_station_that_is_served_elsewhere_is_refused(self) -> None:
        self.connect(self.here)
        refused = self.connect(self.there, 0.2)
        self.assertIsInstance(refused, Refused)
        self.assertEqual((refused.reason, refused.reason.status), (Reason.OWNED_ELSEWHERE, 409))
        self.assertIn("node a serves it since", refused.detail)
        self.assertEqual(self.answering(), ["a"])

    def test_half_open_elsewhere_it_is_back_within_five_seconds(self) -> None:
        first = self.connect(self.here)
        self.station.peers[0].is_dead = True
        second = self.connect(self.there, 4.0)
        self.assertGreater(second.epoch, first.epoch)
        self.assertEqual(self.station.peers[0].codes, [1012])
        self.assertEqual(self.answering(), ["b"])

    def test_a_station_that_left_is_taken_at_once(self) -> None:
        self.connect(self.here)
        self.station.peers[0].gone()
        self.world.advance(1.0)
        self.assertIsInstance(self.connect(self.there), Claim)

    def test_right_after_it_left_the_other_node_says_so(self) -> None:
        self.connect(self.here)
        self.station.peers[0].gone()
        self.assertIsInstance(self.connect(self.there, 0.2), Claim)

    def test_a_silent_node_loses_its_station_within_five_seconds(self) -> None:
        """It was killed, and its key is still there."""
        self.connect(self.here)
        self.here.pause()
        self.assertIsInstance(self.connect(self.there, 3.0), Claim)

    def test_a_dead_node_loses_its_station_at_once(self) -> None:
        self.connect(self.here)
        self.here.pause()
        self.world.fleet.forget_node("a")
        self.assertIsInstance(self.connect(self.there), Claim)

    def test_a_node_that_hears_nothing_loses_its_station_and_knows_before_the_other_serves(self) -> None:
        """Kafka is away for it, Redis is not."""
        self.connect(self.here)
        self.here.is_deaf = True
        decided = self.station.connect(self.there)
        while not decided.called:
            self.world.advance(0.05)
        self.assertTrue(self.station.peers[0].is_closed)
        self.assertEqual(self.answering(), ["b"])

    def test_the_newest_wins_by_policy(self) -> None:
        third = self.world.node("c", "newest")
        self.connect(self.here)
        self.assertIsInstance(self.connect(third, SERVE_AFTER_SECONDS), Claim)
        self.assertEqual(self.station.peers[0].codes, [1012])
        self.assertEqual(self.answering(), ["c"])

    def test_only_staleness_counts_by_policy(self) -> None:
        third = self.world.node("c", "reject", refresh_seconds=10_000)
        self.connect(self.here)
        self.station.peers[0].is_dead = True
        self.assertIsInstance(self.connect(third), Refused)

    def test_force_disconnect_of_an_older_epoch_is_not_obeyed(self) -> None:
        claim = self.connect(self.here)
        for epoch, is_closed in ((claim.epoch - 1, False), (claim.epoch, False), (claim.epoch + 1, True)):
            self.here.owner.control({"type": "ForceDisconnect", "chargePointId": "CP-1", "newEpoch": epoch})
            self.assertEqual(self.station.peers[0].is_closed, is_closed)

    def test_messages_nobody_understands_do_no_harm(self) -> None:
        self.connect(self.here)
        for message in (
            {},
            {"type": "ForceDisconnect"},
            {"type": "ForceDisconnect", "chargePointId": "CP-1", "newEpoch": "9"},
            {"type": "ProveSession", "chargePointId": "CP-1"},
            {"type": "ProveSession", "ownerNodeId": "a", "epoch": 1, "requesterTopic": 7},
            {"type": "SessionProof", "challengeId": "nobody's", "state": "dead"},
            {"type": "MakeCoffee"},
        ):
            self.here.owner.control(message)
        self.assertEqual(self.answering(), ["a"])


class Claims(FleetCase):
    def test_a_claim_whose_connection_never_opened_is_given_back(self) -> None:
        claimed = self.here.owner.claim(STATION, V16)
        self.successResultOf(claimed)
        self.world.advance(GHOST_SECONDS - 1, 0.4)
        self.assertIn("CP-1", self.world.fleet.sessions())
        self.world.advance(3, 0.4)
        self.assertEqual(self.world.fleet.sessions(), {})

    def test_one_that_was_taken_before_its_connection_opened_is_not_served(self) -> None:
        claim = self.successResultOf(self.here.owner.claim(STATION, V16))
        self.here.owner.control({"type": "ForceDisconnect", "chargePointId": "CP-1", "newEpoch": claim.epoch + 1})
        peer = Peer(self.world, self.here, self.station, claim)
        self.assertEqual((peer.codes, len(self.here.around.links)), ([1012], 0))

    def test_claims_stay_alive_while_their_stations_are_connected(self) -> None:
        self.connect(self.here)
        self.world.advance(3 * self.world.fleet.session_ttl, 0.4)
        self.assertEqual(self.world.fleet.sessions()["CP-1"].node_id, "a")

    def test_after_redis_lost_its_data_the_fleet_is_told_again(self) -> None:
        claim = self.connect(self.here)
        self.world.fleet.forget()
        self.world.advance(2.0)
        row = self.world.fleet.sessions()["CP-1"]
        self.assertEqual((row.node_id, row.epoch, self.here.forgotten), ("a", claim.epoch, 1))
        self.assertEqual(self.answering(), ["a"])

    def test_a_claim_that_a_failover_lost_is_put_back(self) -> None:
        """The new primary never heard of it; the connection to it is what this node notices."""
        self.connect(self.here)
        self.world.fleet.fault = "Redis is away"
        self.world.advance(1.0)
        self.world.fleet.fault = ""
        self.world.fleet.drop_session("CP-1")
        self.world.advance(1.0)
        self.assertEqual(self.world.fleet.sessions()["CP-1"].node_id, "a")

    def test_an_orderly_end_gives_all_back(self) -> None:
        self.connect(self.here)
        self.station.peers[0].gone()
        self.successResultOf(self.here.owner.stop())
        self.assertEqual(self.world.fleet.sessions(), {})
        self.assertEqual([row.node_id for row in self.world.fleet.nodes()], ["b"])
        self.assertIsInstance(self.connect(self.there), Claim)


class RedisAway(FleetCase):
    def test_sessions_go_on_and_new_ones_are_refused(self) -> None:
        self.connect(self.here)
        self.world.fleet.fault = "Redis is away"
        self.world.advance(10.0)
        self.assertEqual(self.answering(), ["a"])
        failure = self.failureResultOf(
            self.there.owner.claim(StationFacts("CP-2", "station-2", "tenant-1"), V16), StoreError
        )
        self.assertIn("Redis is away", str(failure.value))

    def test_by_policy_new_ones_are_let_in_without_a_claim_and_claimed_later(self) -> None:
        third = self.world.node("c", admits_unclaimed=True)
        first = self.connect(third)
        self.station.peers[0].gone()
        self.world.fleet.fault = "Redis is away"
        self.world.advance(3.0)
        second = self.connect(third)
        self.assertGreater(second.epoch, first.epoch)
        self.assertEqual(self.answering(), ["c"])
        self.world.fleet.fault = ""
        self.world.advance(2.0)
        self.assertEqual(self.world.fleet.sessions()["CP-1"].epoch, second.epoch)

    def test_a_process_whose_name_another_one_took_serves_nobody(self) -> None:
        self.connect(self.here)
        other = MemorySessions(self.world.fleet, "a", "2")
        self.successResultOf(other.announce())
        self.world.advance(1.0)
        self.assertGreater(self.here.notes("node-id-taken"), 0)
        self.assertEqual(self.station.peers[0].codes, [1012])


class Paused(FleetCase):
    def test_a_process_that_was_paused_answers_nothing_before_it_has_asked(self) -> None:
        self.connect(self.here)
        self.here.pause()
        self.station.send()
        self.assertIsInstance(self.connect(self.there, 5.0), Claim)
        del self.world.answers[:]
        self.here.resume(messages_first=True)
        self.assertEqual(self.world.answers, [])
        self.assertEqual(self.station.peers[0].codes, [1012])

    def test_what_it_was_about_to_send_is_not_sent(self) -> None:
        self.connect(self.here)
        link = self.station.peers[0].link
        self.here.pause()
        self.connect(self.there, 5.0)
        del self.world.answers[:]
        self.here.is_paused = False
        link._send(b"an answer that was durable before the pause")
        self.here.catch_up()
        self.assertEqual(self.world.answers, [])

    def test_nobody_took_it_so_it_goes_on_with_what_came_meanwhile(self) -> None:
        self.connect(self.here)
        self.here.pause()
        self.station.send()
        self.world.advance(5.0)
        self.here.resume()
        self.assertEqual([node for _, _, node in self.world.answers], ["a"])
        self.assertEqual(self.here.notes("process-was-paused"), 1)

    def test_a_short_pause_costs_nothing(self) -> None:
        self.connect(self.here)
        self.here.pause()
        self.world.advance(GAP_SECONDS / 2)
        self.station.send()
        self.here.resume()
        self.assertEqual([node for _, _, node in self.world.answers], ["a"])
        self.assertEqual(self.here.notes("process-was-paused"), 0)

    def test_when_redis_is_away_too_it_goes_on(self) -> None:
        self.connect(self.here)
        self.here.pause()
        self.station.send()
        self.world.advance(5.0)
        self.world.fleet.fault = "Redis is away"
        self.here.resume()
        self.assertEqual(self.world.answers, [], "one failure says nothing")
        self.world.advance(ASKED_SECONDS)
        self.assertEqual([node for _, _, node in self.world.answers], ["a"])

    def test_a_connection_to_redis_that_broke_in_the_pause_is_waited_for(self) -> None:
        """Calls that were out are overdue when the process wakes up."""
        self.connect(self.here)
        self.here.pause()
        self.station.send()
        self.assertIsInstance(self.connect(self.there, 5.0), Claim)
        del self.world.answers[:]
        self.world.fleet.fault = "the connection was lost"
        self.here.resume()
        self.world.fleet.fault = ""
        self.world.advance(0.2)
        self.assertEqual((self.world.answers, self.station.peers[0].codes), ([], [1012]))

    def test_when_redis_lost_its_data_meanwhile_it_asks_for_each(self) -> None:
        """Nobody is told any more what was taken from it."""
        self.connect(self.here)
        self.here.pause()
        self.station.send()
        self.world.advance(5.0)
        self.world.fleet.forget()
        self.assertIsInstance(self.connect(self.there), Claim)
        del self.world.answers[:]
        self.here.resume(messages_first=True)
        self.assertEqual((self.world.answers, self.station.peers[0].codes), ([], [1012]))

    def test_what_is_held_is_bounded(self) -> None:
        self.patch(lease, "MAX_HELD", 3)
        self.connect(self.here)
        self.here.pause()
        for _ in range(5):
            self.station.send()
        self.world.advance(5.0)
        asked = self.here.sessions.beat
        self.patch(self.here.sessions, "beat", self.never)
        self.here.is_paused = False
        for _ in range(5):
            self.station.peers[0].link.received(b"x")
        self.assertEqual(self.station.peers[0].codes[0], 1013)
        self.patch(self.here.sessions, "beat", asked)

    def never(self) -> Any:
        return Deferred()


class ThreeNodes(SynchronousTestCase):
    """A random walk: stations connect anywhere, connections die silently, processes pause, Kafka or Redis go away."""

    def walk(self, seed: int) -> tuple[list[tuple[str, int, str]], int]:
        chance = random.Random(seed)
        world = World()
        nodes = [world.node(name) for name in "abc"]
        stations = [world.station(f"CP-{number}") for number in range(3)]
        pauses = 0
        for _ in range(150):
            node, station = chance.choice(nodes), chance.choice(stations)
            match chance.randrange(10):
                case 0 | 1 | 2:
                    if not node.is_paused:
                        station.connect(node).addErrback(lambda failure: failure.trap(StoreError) and None)
                case 3:
                    for peer in station.open:
                        peer.is_dead = chance.random() < 0.5 or peer.is_dead
                case 4:
                    if station.open and not station.open[0].node.is_paused:
                        station.open[0].gone()
                case 5:
                    node.pause()
                    pauses += 1
                case 6:
                    for other in nodes:
                        if other.is_paused:
                            other.resume(messages_first=chance.random() < 0.5)
                case 7:
                    node.is_deaf = not node.is_deaf
                case _:
                    pass
            station.send()
            world.advance(chance.choice((0.05, 0.3, 1.0, 3.0)))
            station.send()
        return world.answers, pauses

    def test_two_sockets_never_serve_one_station(self) -> None:
        answered = pauses = 0
        for seed in range(60):
            answers, paused = self.walk(seed)
            newest: dict[str, tuple[int, str]] = {}
            for name, epoch, node in answers:
                before = newest.get(name, (0, ""))
                self.assertGreaterEqual(epoch, before[0], f"seed {seed}: {node} answers {name} after {before}")
                newest[name] = (epoch, node)
            answered += len(answers)
            pauses += paused
        self.assertGreater(answered, 1000)
        self.assertGreater(pauses, 300)
