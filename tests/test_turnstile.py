"""What one address may cost, and that a whole network of IPv6 addresses is one."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.identity import StoredSecret
from ocppgw.access.refusals import Reason
from ocppgw.access.turnstile import Turnstile, TurnstileRules
from ocppgw.access.verified import KEY_BYTES, VerifiedSecrets

A, B = "192.0.2.1", "192.0.2.2"
UNBOUNDED = {"max_connections": 0, "max_half_open": 0, "handshakes_per_minute": 0, "refusals_per_minute": 0}


def turnstile(capacity=100, **rules):
    return Turnstile(TurnstileRules(**{**UNBOUNDED, **rules}), capacity)


class TurnstileTests(SynchronousTestCase):
    def test_connections_of_one_address_are_bounded_and_given_back(self):
        gate = turnstile(max_connections=2)
        self.assertEqual([gate.arrive(A, 0.0) for _ in range(3)], [None, None, Reason.TOO_MANY_FROM_ADDRESS])
        self.assertIsNone(gate.arrive(B, 0.0))
        gate.upgraded(A)
        gate.leave(A, half_open=False)
        self.assertIsNone(gate.arrive(A, 0.0))

    def test_half_open_connections_are_bounded_on_their_own(self):
        gate = turnstile(max_half_open=1)
        self.assertIsNone(gate.arrive(A, 0.0))
        self.assertIs(gate.arrive(A, 0.0), Reason.TOO_MANY_HALF_OPEN_FROM_ADDRESS)
        gate.upgraded(A)
        self.assertIsNone(gate.arrive(A, 0.0))
        gate.leave(A, half_open=True)
        self.assertIsNone(gate.arrive(A, 0.0))

    def test_handshakes_a_minute_are_bounded(self):
        gate = turnstile(handshakes_per_minute=60)
        outcomes = [gate.arrive(A, 0.0) for _ in range(61)]
        self.assertEqual(outcomes, [None] * 60 + [Reason.TOO_MANY_HANDSHAKES])
        self.assertEqual(gate.wait(A, 0.0), 2)
        self.assertIsNone(gate.arrive(A, 1.0))

    def test_too_many_refusals_close_the_gate_for_a_while(self):
        gate = turnstile(refusals_per_minute=60)
        for _ in range(60):
            self.assertIsNone(gate.arrive(A, 0.0))
            gate.refused(A, 0.0)
        self.assertIs(gate.arrive(A, 0.0), Reason.TOO_MANY_REFUSALS)
        self.assertIsNone(gate.arrive(B, 0.0))
        self.assertIsNone(gate.arrive(A, 1.0))

    def test_one_ipv6_network_counts_as_one_address(self):
        gate = turnstile(max_connections=1)
        self.assertIsNone(gate.arrive("2001:db8::1", 0.0))
        self.assertIs(gate.arrive("2001:db8::ffff:2", 0.0), Reason.TOO_MANY_FROM_ADDRESS)
        self.assertIsNone(gate.arrive("2001:db8:0:1::1", 0.0))

    def test_an_ipv4_address_is_the_same_in_both_spellings(self):
        gate = turnstile(max_connections=1)
        self.assertIsNone(gate.arrive(A, 0.0))
        self.assertIs(gate.arrive(f"::ffff:{A}", 0.0), Reason.TOO_MANY_FROM_ADDRESS)

    def test_addresses_are_forgotten_but_never_one_with_a_connection(self):
        gate = turnstile(capacity=10, max_connections=1)
        gate.arrive(A, 0.0)
        for number in range(50):
            gate.arrive(f"10.0.0.{number}", 0.0)
            gate.leave(f"10.0.0.{number}", half_open=True)
        self.assertLessEqual(len(gate), 11)
        self.assertIs(gate.arrive(A, 0.0), Reason.TOO_MANY_FROM_ADDRESS)

    @given(st.lists(st.tuples(st.sampled_from([A, B, "x", ""]), st.booleans()), max_size=40))
    def test_counts_never_leak(self, visits):
        gate = turnstile(max_connections=5, max_half_open=5)
        inside = []
        for address, leaves in visits:
            if gate.arrive(address, 0.0) is None:
                inside.append(address)
            if leaves and inside:
                gate.leave(inside.pop(), half_open=True)
        for address in inside:
            gate.leave(address, half_open=True)
        for address in (A, B):
            self.assertEqual([gate.arrive(address, 0.0) for _ in range(5)], [None] * 5)


class VerifiedTests(SynchronousTestCase):
    STORED = StoredSecret("scrypt", digest=b"d" * 32, salt=b"salt")

    def test_what_was_verified_is_known_for_a_while(self):
        verified = VerifiedSecrets(bytes(KEY_BYTES), 60.0)
        self.assertFalse(verified.holds(self.STORED, b"secret", 0.0))
        verified.add(self.STORED, b"secret", 0.0)
        self.assertTrue(verified.holds(self.STORED, b"secret", 59.0))
        self.assertFalse(verified.holds(self.STORED, b"secret", 60.0))

    def test_another_secret_or_another_hash_is_not(self):
        verified = VerifiedSecrets(bytes(KEY_BYTES), 60.0)
        verified.add(self.STORED, b"secret", 0.0)
        self.assertFalse(verified.holds(self.STORED, b"secrets", 0.0))
        self.assertFalse(verified.holds(StoredSecret("scrypt", b"e" * 32, b"salt"), b"secret", 0.0))
        self.assertFalse(verified.holds(StoredSecret("scrypt", b"d" * 32, b"sal"), b"tsecret", 0.0))

    def test_it_is_bounded_and_can_be_switched_off(self):
        verified = VerifiedSecrets(bytes(KEY_BYTES), 60.0, capacity=10)
        for number in range(50):
            verified.add(self.STORED, str(number).encode(), 0.0)
        self.assertEqual(len(verified), 10)
        never = VerifiedSecrets(bytes(KEY_BYTES), 0.0)
        never.add(self.STORED, b"secret", 0.0)
        self.assertEqual((len(never), never.holds(self.STORED, b"secret", 0.0)), (0, False))
