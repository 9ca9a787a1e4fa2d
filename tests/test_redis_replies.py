"""What Redis answers, however it is cut."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from txredisapi import InvalidData, ResponseError

from ocppgw.net.redis.replies import MAX_LINE, ReplyReader

REPLIES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


def written(reply: Any) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(map(written, reply))


class Replies(SynchronousTestCase):
    @given(replies=st.lists(REPLIES, max_size=6), cuts=st.lists(st.integers(0, 500), max_size=20))
    def test_replies_are_the_same_however_they_are_cut(self, replies: list[Any], cuts: list[int]) -> None:
        stream = b"".join(map(written, replies))
        ends = sorted(min(cut, len(stream)) for cut in cuts)
        reader = ReplyReader()
        read: list[Any] = []
        for start, end in zip([0, *ends], [*ends, len(stream)], strict=True):
            read += reader.feed(stream[start:end])
        self.assertEqual(read, replies)

    def test_each_kind_of_reply(self) -> None:
        reader = ReplyReader()
        self.assertEqual(reader.feed(b"+OK\r\n:-3\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n"), [b"OK", -3, b"", None, None, []])

    def test_errors_are_values_also_inside_of_arrays(self) -> None:
        first, (second, third) = ReplyReader().feed(b"-NOAUTH really\xff\r\n*2\r\n-ERR x\r\n:1\r\n")
        self.assertEqual((type(first), str(first)), (ResponseError, "NOAUTH really\ufffd"))
        self.assertEqual((type(second), str(second), third), (ResponseError, "ERR x", 1))

    def test_what_is_not_redis_or_too_much_is_refused(self) -> None:
        for data in (
            b"HTTP/1.1 400 Bad Request\r\n",
            b"$x\r\n",
            b":1.5\r\n",
            b"$99999999999\r\n",
            b"*99999999999\r\n",
            b"*1\r\n" * 20,
            b"+" + b"x" * (MAX_LINE + 1),
        ):
            with self.assertRaises(InvalidData):
                ReplyReader().feed(data)
