"""The operations HTTP, as its clients see it."""

import json
import os

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.errors import Overloaded, StoreError
from ocppgw.net.web.request import CUT_BYTES, MAX_BODY_BYTES
from tests.fake_gateway import build_web

RESET = {"commandType": "Reset", "chargePointId": "CP-001", "payload": {"type": "Soft"}}


class StateTests(SynchronousTestCase):
    def test_health_and_readiness(self):
        web, gateway, _ = build_web()
        self.assertEqual(web.get("/health").json()["nodeId"], "n1")
        self.assertEqual(web.get("/ready").status, 200)
        gateway.is_ready = False
        self.assertEqual(web.get("/health").status, 200)
        answer = web.get("/ready")
        self.assertEqual((answer.status, answer.json()["ready"], answer.json()["draining"]), (503, False, True))

    def test_metrics_are_prometheus_text(self):
        answer = build_web()[0].get("/metrics")
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.headers["content-type"].startswith("text/plain"))
        self.assertIn(b"# HELP ocppgw_messages_received_total ", answer.body)

    def test_head_has_no_body(self):
        answer = build_web()[0].request("HEAD", "/health").answer()
        self.assertEqual((answer.status, answer.body), (200, b""))

    def test_server_software_is_not_named(self):
        self.assertNotIn("server", build_web()[0].get("/health").headers)


class StationTests(SynchronousTestCase):
    def ids(self, query):
        return [row["chargePointId"] for row in build_web()[0].get(f"/v1/stations{query}").json()["stations"]]

    def test_filters(self):
        self.assertEqual(self.ids(""), ["CP-001", "CP-002"])
        self.assertEqual(self.ids("?connected=true"), ["CP-001"])
        self.assertEqual(self.ids("?connected=0"), ["CP-002"])
        self.assertEqual(self.ids("?version=1.6"), ["CP-001"])
        self.assertEqual(self.ids("?version=ocpp2.0.1"), ["CP-002"])
        self.assertEqual(self.ids("?search=cp-002"), ["CP-002"])
        self.assertEqual(self.ids("?search=nowhere"), [])

    def test_pages(self):
        answer = build_web()[0].get("/v1/stations?limit=1&offset=1").json()
        self.assertEqual([row["chargePointId"] for row in answer["stations"]], ["CP-002"])
        self.assertEqual((answer["total"], answer["limit"], answer["offset"]), (2, 1, 1))

    def test_one_station(self):
        self.assertEqual(build_web()[0].get("/v1/stations/CP%2D001").json()["chargePointId"], "CP-001")

    def test_unknown_station_is_a_404_that_says_so(self):
        answer = build_web()[0].get("/v1/stations/CP-9")
        self.assertEqual((answer.status, answer.json()["code"]), (404, "UnknownStation"))
        self.assertIn("CP-9", answer.json()["message"])

    def test_wrong_parameters_are_named(self):
        web, _, _ = build_web()
        for query, named in (
            ("limit=0", "limit='0'"),
            ("limit=1001", "limit='1001'"),
            ("limit=x", "limit='x'"),
            ("offset=-1", "offset='-1'"),
            ("connected=maybe", "connected='maybe'"),
            ("conected=true", "'conected'"),
            ("limit=1&limit=2", "'limit'"),
            ("search=%ff&limit=%c2%b2", "limit='²'"),
        ):
            answer = web.get(f"/v1/stations?{query}")
            self.assertEqual((answer.status, answer.json()["code"]), (400, "BadQuery"), query)
            self.assertIn(named, answer.json()["message"])


class CommandTests(SynchronousTestCase):
    def test_command_is_accepted_with_its_record(self):
        web, gateway, _ = build_web()
        answer = web.post("/v1/commands", RESET)
        self.assertEqual((answer.status, answer.json()["status"]), (202, "Queued"))
        self.assertEqual(gateway.submitted, [RESET])
        record = web.get(f"/v1/commands/{answer.json()['commandId']}").json()
        self.assertEqual(record, answer.json())

    def test_wait_answers_when_the_command_ends(self):
        web, gateway, clock = build_web()
        connection = web.request("POST", "/v1/commands?wait=20", json.dumps({**RESET, "commandId": "c1"}).encode())
        clock.advance(5)
        self.assertEqual(connection.transport.value(), b"")
        gateway.end("c1", "Accepted", response_payload={"status": "Accepted"})
        answer = connection.answer()
        self.assertEqual((answer.status, answer.json()["status"]), (200, "Accepted"))

    def test_wait_ends_after_its_time(self):
        web, _, clock = build_web()
        connection = web.request("POST", "/v1/commands?wait=20", json.dumps({**RESET, "commandId": "c1"}).encode())
        clock.advance(20)
        answer = connection.answer()
        self.assertEqual((answer.status, answer.json()["status"]), (202, "Queued"))

    def test_client_that_leaves_while_waiting_is_forgotten(self):
        web, gateway, _ = build_web()
        connection = web.request("POST", "/v1/commands?wait=20", json.dumps({**RESET, "commandId": "c1"}).encode())
        connection.protocol.connectionLost(Failure(ConnectionDone()))
        gateway.end("c1", "Accepted")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_repeated_command_id_gives_the_stored_record(self):
        web, gateway, _ = build_web()
        self.assertEqual(web.post("/v1/commands", {**RESET, "commandId": "c1"}).status, 202)
        gateway.end("c1", "Rejected")
        answer = web.post("/v1/commands", {**RESET, "commandId": "c1"})
        self.assertEqual((answer.status, answer.json()["status"]), (200, "Rejected"))

    def test_refused_command_is_a_400_with_code_and_hint(self):
        answer = build_web()[0].post("/v1/commands", {"commandType": "Nonsense"})
        expected = {
            "code": "UnknownCommandType",
            "message": "Nonsense is no command of 1.6J.",
            "hint": "See the README.",
        }
        self.assertEqual((answer.status, answer.json()), (400, expected))

    def test_body_that_is_no_json_object_is_refused(self):
        web, gateway, _ = build_web()
        for body in (b"{", b"\xff", b'{"a": NaN}', b"[" * 10_000, b"[]", b'"text"', b"\x00", b'{"a": 1} x'):
            answer = web.post("/v1/commands", body)
            self.assertEqual((answer.status, answer.json()["code"]), (400, "BadJson"), body[:20])
        self.assertEqual(web.request("POST", "/v1/commands", content_type="application/json").answer().status, 400)
        self.assertEqual(gateway.submitted, [])

    def test_too_large_body_is_refused_and_the_connection_goes_on(self):
        web, gateway, _ = build_web()
        connection = web.request("POST", "/v1/commands", b'"' + b"x" * MAX_BODY_BYTES + b'"')
        self.assertEqual((connection.answer().status, connection.answer().json()["code"]), (413, "TooLarge"))
        connection.transport.clear()
        connection.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(connection.answer().status, 200)
        self.assertEqual(gateway.submitted, [])

    def test_endless_body_is_cut_off(self):
        connection = build_web()[0].connect()
        head = b"POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.send(head)
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        for _ in range(CUT_BYTES // 0x100000 + 1):
            connection.send(chunk)
        self.assertTrue(connection.transport.closed)

    def test_full_queue_and_sick_store_are_503(self):
        web, gateway, _ = build_web()
        for failure in (Overloaded("100 commands are waiting."), StoreError("The disk is full.")):
            gateway.failure = failure
            answer = web.post("/v1/commands", RESET)
            self.assertEqual((answer.status, answer.json()["code"]), (503, failure.code))
            self.assertIn("retry-after", answer.headers)

    def test_bad_wait_is_refused(self):
        web, gateway, _ = build_web()
        for wait in ("-1", "nan", "601", "soon"):
            self.assertEqual(web.post(f"/v1/commands?wait={wait}", RESET).status, 400)
        self.assertEqual(gateway.submitted, [])

    def test_unknown_command_is_a_404(self):
        self.assertEqual(build_web()[0].get("/v1/commands/c9").json()["code"], "UnknownCommand")


class GuardTests(SynchronousTestCase):
    def test_token_protects_every_path(self):
        web, _, _ = build_web(token="s3cret-token")
        for path in ("/health", "/ready", "/metrics", "/v1/stations", "/nowhere"):
            for header in (
                None,
                "Bearer wrong",
                "Basic s3cret-token",
                "s3cret-token",
                "Bearer",
                "Bearer s3cret-token2",
            ):
                answer = web.get(path, authorization=header)
                self.assertEqual((answer.status, answer.json()["code"]), (401, "Unauthorized"))
                self.assertTrue(answer.headers["www-authenticate"].startswith("Bearer"))
        self.assertEqual(web.get("/health", authorization="Bearer s3cret-token").status, 200)
        self.assertEqual(web.get("/v1/stations", authorization="bearer s3cret-token", host="any.name").status, 200)

    def test_rebound_name_gets_no_data_without_a_token(self):
        web, gateway, _ = build_web(hosts=("gateway.example",))
        for host in ("evil.example", "evil.example:3001", "127.0.0.1.evil.example", "localhost.evil.example"):
            answer = web.get("/v1/stations", host=host)
            self.assertEqual((answer.status, answer.json()["code"]), (403, "UnknownHost"))
            self.assertEqual(web.post("/v1/commands", RESET, host=host).status, 403)
        for host in ("127.0.0.1:3001", "[::1]:3001", "localhost", "LOCALHOST:1", "10.1.2.3", "gateway.example:3001"):
            self.assertEqual(web.get("/v1/stations", host=host).status, 200)
        self.assertEqual(web.get("/metrics", host="prometheus-sees-me-so").status, 200)
        self.assertEqual(gateway.submitted, [])

    def test_post_of_a_foreign_page_is_refused(self):
        web, gateway, _ = build_web()
        for origin in ("http://evil.example", "null", "http://127.0.0.1:8000", "http://[", "\xff", ""):
            answer = web.post("/v1/commands", RESET, origin=origin)
            self.assertEqual((answer.status, answer.json()["code"]), (403, "ForeignOrigin"))
        self.assertEqual(gateway.submitted, [])
        self.assertEqual(web.post("/v1/commands", RESET, origin="http://127.0.0.1:3001").status, 202)

    def test_post_that_a_form_could_send_is_refused(self):
        web, gateway, _ = build_web()
        for content_type in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            None,
        ):
            answer = web.post("/v1/commands", RESET, content_type=content_type)
            self.assertEqual((answer.status, answer.json()["code"]), (415, "NotJson"))
        self.assertEqual(gateway.submitted, [])
        self.assertEqual(web.post("/v1/commands", RESET, content_type="application/json; charset=utf-8").status, 202)


class ErrorTests(SynchronousTestCase):
    def test_unknown_path_is_a_json_404(self):
        for path in ("/", "/v1", "/v2/stations", "/health/../x", "/%2e%2e/etc/passwd"):
            answer = build_web()[0].get(path)
            self.assertEqual((answer.status, answer.json()["code"]), (404, "NotFound"), path)

    def test_wrong_method_is_a_json_405(self):
        web, _, _ = build_web()
        for method, path in (
            ("POST", "/health"),
            ("GET", "/v1/commands"),
            ("DELETE", "/health"),
            ("OPTIONS", "/ready"),
        ):
            answer = web.request(method, path, content_type="application/json").answer()
            self.assertEqual((answer.status, answer.json()["code"]), (405, "MethodNotAllowed"))
            self.assertIn("allow", answer.headers)

    def test_failure_is_a_500_that_tells_nothing_but_is_logged(self):
        web, gateway, _ = build_web()
        gateway.failure = RuntimeError("internals")
        answer = web.get("/v1/stations")
        self.assertEqual((answer.status, answer.json()["code"]), (500, "InternalError"))
        self.assertNotIn(b"internals", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_odd_requests_are_refused_without_a_traceback(self):
        web, _, _ = build_web()
        for head in (
            b"GET /%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /v1/stations/%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: \xff\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: a..b\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: " + b"a" * 64 + b"\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: a b\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        ):
            connection = web.connect()
            connection.send(head)
            self.assertEqual(connection.answer().status, 400, head)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_garbage_on_the_port_harms_nobody(self):
        web, _, _ = build_web()
        for garbage in (
            os.urandom(5000),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + b"\x00" * 500,
            b"\r\n" * 5000,
            b"GET\r\n\r\n",
            b"\xff\xfe /\xff HTTP/9.9\r\n\r\n",
            b"GET /health HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 5000,
            b"GET /" + b"a" * 100_000,
            b"POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
            b"POST /v1/commands HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ):
            connection = web.connect()
            connection.send(garbage)
            connection.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(web.get("/health").status, 200)

    def test_silent_connection_is_closed(self):
        web, _, clock = build_web()
        connection = web.connect()
        connection.send(b"GET /health HTTP/1.1\r\nHos")
        clock.advance(61)
        self.assertTrue(connection.transport.closed)


class EventPageTests(SynchronousTestCase):
    def cursors(self, answer):
        return [row["cursor"] for row in answer.json()["events"]]

    def test_pages_by_cursor(self):
        web, gateway, _ = build_web()
        gateway.publish(250)
        answer = web.get("/v1/events?since=0&limit=120")
        self.assertEqual(self.cursors(answer), list(range(1, 121)))
        self.assertEqual((answer.json()["next"], answer.json()["last"]), (120, 250))
        row = answer.json()["events"][0]
        self.assertEqual(
            (row["topic"], row["key"], row["event"]["eventType"]), ("ocpp.station.events", "CP-001", "StationHeartbeat")
        )
        answer = web.get("/v1/events?since=120&limit=1000")
        self.assertEqual(self.cursors(answer), list(range(121, 251)))
        self.assertEqual(self.cursors(web.get("/v1/events?since=250")), [])

    def test_negative_since_counts_from_the_end(self):
        web, gateway, _ = build_web()
        gateway.publish(5)
        self.assertEqual(self.cursors(web.get("/v1/events?since=-2")), [4, 5])
        self.assertEqual(self.cursors(web.get("/v1/events?since=-50")), [1, 2, 3, 4, 5])

    def test_filters(self):
        web, gateway, _ = build_web()
        gateway.publish(2, charge_point_id="CP-001")
        gateway.publish(2, charge_point_id="CP-002")
        gateway.publish(2, topic="ocpp.session.events", charge_point_id="CP-002")
        self.assertEqual(self.cursors(web.get("/v1/events?chargePointId=CP-002")), [3, 4, 5, 6])
        answer = web.get("/v1/events?topic=ocpp.session.events&limit=1")
        self.assertEqual((self.cursors(answer), answer.json()["next"]), ([5], 5))

    def test_filter_that_matches_nothing_moves_on_in_bounded_steps(self):
        web, gateway, _ = build_web()
        gateway.publish(10_500)
        answer = web.get("/v1/events?chargePointId=CP-9")
        self.assertEqual((self.cursors(answer), answer.json()["next"]), ([], 10_000))

    def test_page_is_bounded_in_bytes(self):
        web, gateway, _ = build_web()
        gateway.publish(30, size=500_000)
        answer = web.get("/v1/events?limit=1000")
        self.assertLess(len(answer.body), 6_000_000)
        self.assertEqual(answer.json()["next"], self.cursors(answer)[-1])

    def test_cursor_beyond_the_end_is_refused(self):
        web, gateway, _ = build_web()
        gateway.publish(3)
        for path in ("/v1/events?since=4", "/v1/events?since=4&follow=1"):
            answer = web.get(path)
            self.assertEqual((answer.status, answer.json()["code"]), (409, "CursorBeyondEnd"))


class FollowTests(SynchronousTestCase):
    def follow(self, query="", published=0):
        web, gateway, clock = build_web()
        gateway.publish(published)
        return web.request("GET", f"/v1/events?follow=1{query}"), gateway, clock

    def cursors(self, connection):
        return [json.loads(line)["cursor"] for line in connection.lines() if line]

    def test_stream_starts_at_the_end_and_goes_on(self):
        connection, gateway, _ = self.follow(published=3)
        answer = connection.answer()
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/x-ndjson"))
        self.assertEqual((answer.headers["ocppgw-cursor"], answer.body), ("3", b""))
        gateway.publish(2)
        self.assertEqual(self.cursors(connection), [4, 5])

    def test_stream_from_the_beginning_has_no_gap(self):
        connection, gateway, _ = self.follow("&since=0", published=350)
        gateway.publish(1)
        self.assertEqual(self.cursors(connection), list(range(1, 352)))

    def test_event_published_during_a_read_is_not_missed(self):
        connection, gateway, _ = self.follow()
        gateway.hold_reads = True
        gateway.publish(1)
        held = gateway.held
        gateway.held = []
        gateway.publish(1)
        held[0][2].callback([gateway.journal[0]])
        gateway.release_reads()
        self.assertEqual(self.cursors(connection), [1, 2])

    def test_filtered_stream(self):
        connection, gateway, _ = self.follow("&chargePointId=CP-002")
        gateway.publish(2, charge_point_id="CP-001")
        gateway.publish(1, charge_point_id="CP-002")
        self.assertEqual(self.cursors(connection), [3])

    def test_idle_stream_is_kept_alive(self):
        connection, gateway, clock = self.follow()
        clock.advance(15)
        self.assertEqual(connection.lines(), [b""])
        clock.advance(14)
        gateway.publish(1)
        clock.advance(1)
        self.assertEqual(self.cursors(connection), [1])
        self.assertEqual(connection.lines().count(b""), 1)

    def test_slow_reader_pauses_reading_of_the_journal(self):
        connection, gateway, _ = self.follow()
        connection.transport.producer.pauseProducing()
        reads = len(gateway.reads)
        gateway.publish(1000)
        self.assertEqual((len(gateway.reads), self.cursors(connection)), (reads, []))
        connection.transport.producer.resumeProducing()
        self.assertEqual(self.cursors(connection), list(range(1, 1001)))

    def test_reader_that_fills_up_gets_one_page_at_a_time(self):
        connection, gateway, _ = self.follow()
        write = connection.transport.writeSequence

        def write_and_fill(data):
            write(data)
            connection.transport.producer.pauseProducing()

        connection.transport.writeSequence = write_and_fill
        gateway.publish(1000)
        self.assertEqual(self.cursors(connection), list(range(1, 101)))

    def test_stalled_reader_is_cut_off(self):
        connection, gateway, clock = self.follow()
        connection.transport.producer.pauseProducing()
        for _ in range(5):
            clock.advance(15)
        self.assertTrue(connection.transport.closed)
        self.assertEqual(gateway.subscribers, [])

    def test_client_that_leaves_leaves_nothing_behind(self):
        for held in (False, True):
            connection, gateway, clock = self.follow()
            gateway.hold_reads = held
            gateway.publish(1)
            connection.protocol.connectionLost(Failure(ConnectionLost()))
            gateway.release_reads()
            clock.advance(100)
            self.assertEqual((gateway.subscribers, clock.getDelayedCalls()), ([], []))
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_stream_ends_cleanly_when_the_port_is_closed(self):
        web, gateway, _ = build_web()
        connection = web.request("GET", "/v1/events?follow=1")
        web.site.doStart()
        web.site.doStop()
        self.assertTrue(connection.transport.value().endswith(b"0\r\n\r\n"))
        self.assertEqual(gateway.subscribers, [])

    def test_failing_journal_ends_the_stream_and_is_logged(self):
        connection, gateway, _ = self.follow()
        gateway.hold_reads = True
        gateway.publish(1)
        gateway.held[0][2].errback(StoreError("The disk is full."))
        self.assertTrue(connection.transport.value().endswith(b"0\r\n\r\n"))
        self.assertEqual(len(self.flushLoggedErrors(StoreError)), 1)

    def test_number_of_streams_is_bounded(self):
        web, _, _ = build_web()
        for _ in range(64):
            self.assertEqual(web.get("/v1/events?follow=1").status, 200)
        answer = web.get("/v1/events?follow=1")
        self.assertEqual((answer.status, answer.json()["code"]), (503, "TooManyFollowers"))
