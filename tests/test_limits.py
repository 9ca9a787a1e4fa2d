"""Rates, flapping stations and repeated log lines stay bounded."""

from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.limits import LogCooldown, SwapDamper, TokenBucket


class TokenBucketTests(SynchronousTestCase):
    def test_a_full_bucket_lets_a_burst_through_and_no_more(self):
        bucket = TokenBucket(rate=1, burst=3, now=100)
        self.assertEqual([bucket.take(100) for _ in range(5)], [True, True, True, False, False])

    def test_tokens_come_back_at_the_rate(self):
        bucket = TokenBucket(rate=2, burst=1)
        self.assertTrue(bucket.take(0))
        self.assertFalse(bucket.take(0.25))
        self.assertEqual(bucket.wait(0.25), 0.25)
        self.assertTrue(bucket.take(0.5))

    def test_a_long_rest_saves_up_no_more_than_the_burst(self):
        bucket = TokenBucket(rate=10, burst=2)
        self.assertEqual([bucket.take(1e6) for _ in range(3)], [True, True, False])

    def test_wait_is_zero_while_a_token_is_there(self):
        self.assertEqual(TokenBucket(rate=1, burst=1).wait(0), 0.0)

    def test_a_clock_that_stands_still_or_goes_back_gives_no_tokens(self):
        bucket = TokenBucket(rate=1, burst=1, now=10)
        self.assertTrue(bucket.take(10))
        self.assertFalse(bucket.take(5))
        self.assertFalse(bucket.take(10))
        self.assertTrue(bucket.take(11))

    def test_a_bucket_that_never_fills_is_refused(self):
        for rate, burst in ((0, 1), (-1, 1), (1, 0.5)):
            self.assertRaises(ValueError, TokenBucket, rate, burst)


class SwapDamperTests(SynchronousTestCase):
    def test_swaps_above_the_limit_in_a_minute_are_refused(self):
        damper = SwapDamper(limit=3)
        self.assertEqual([damper.allow("CP-1", now) for now in (0, 1, 2, 3, 59)], [True, True, True, False, False])

    def test_the_id_is_free_again_once_its_swaps_are_old(self):
        damper = SwapDamper(limit=2)
        damper.allow("CP-1", 0)
        damper.allow("CP-1", 30)
        self.assertEqual(damper.wait("CP-1", 45), 15)
        self.assertFalse(damper.allow("CP-1", 45))
        self.assertTrue(damper.allow("CP-1", 60))
        self.assertFalse(damper.allow("CP-1", 61))

    def test_ids_do_not_count_for_each_other(self):
        damper = SwapDamper(limit=1)
        self.assertTrue(damper.allow("CP-1", 0))
        self.assertTrue(damper.allow("CP-2", 0))
        self.assertFalse(damper.allow("CP-1", 0))

    def test_an_id_below_its_limit_waits_for_nothing(self):
        damper = SwapDamper(limit=2)
        damper.allow("CP-1", 0)
        self.assertEqual((damper.wait("CP-1", 0), damper.wait("CP-2", 0)), (0.0, 0.0))

    def test_memory_is_bounded_and_the_oldest_swap_goes_first(self):
        damper = SwapDamper(limit=1, capacity=2)
        for now, name in enumerate(("CP-1", "CP-2", "CP-3")):
            damper.allow(name, now)
        self.assertEqual(len(damper), 2)
        self.assertFalse(damper.allow("CP-3", 3))
        self.assertTrue(damper.allow("CP-1", 3))

    def test_a_limit_of_none_at_all_is_refused(self):
        self.assertRaises(ValueError, SwapDamper, 0)


class LogCooldownTests(SynchronousTestCase):
    def test_repeats_are_left_out_and_counted(self):
        cooldown = LogCooldown(300)
        self.assertEqual(cooldown.left_out("192.0.2.1", 0), 0)
        self.assertEqual([cooldown.left_out("192.0.2.1", now) for now in (1, 2, 299)], [None, None, None])
        self.assertEqual(cooldown.left_out("192.0.2.1", 300), 3)
        self.assertEqual(cooldown.left_out("192.0.2.1", 600), 0)

    def test_keys_do_not_count_for_each_other(self):
        cooldown = LogCooldown(300)
        cooldown.left_out("192.0.2.1", 0)
        self.assertEqual(cooldown.left_out("192.0.2.2", 0), 0)

    def test_memory_is_bounded_and_the_oldest_line_goes_first(self):
        cooldown = LogCooldown(300, capacity=2)
        for now, key in enumerate("abc"):
            cooldown.left_out(key, now)
        self.assertEqual(len(cooldown), 2)
        self.assertIsNone(cooldown.left_out("c", 3))
        self.assertEqual(cooldown.left_out("a", 3), 0)

    def test_no_cooldown_logs_everything(self):
        cooldown = LogCooldown(0)
        self.assertEqual([cooldown.left_out("a", 5) for _ in range(3)], [0, 0, 0])
