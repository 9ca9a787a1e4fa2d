"""OpenSSL calls that pyOpenSSL has no method for, through the binding it uses itself. What is private to pyOpenSSL is
touched in this module only.

- A server can't ask pyOpenSSL whether a session was resumed.
- pyOpenSSL's verify callback sees the certificate at fault but neither the leaf nor the chain, and turns the error of a
  refusal into "unspecified", so that the station would be sent the alert internal_error.
- pyOpenSSL's info callback costs a look-up for each step of a handshake; only alerts are wanted.
- A memory BIO keeps the size it had in the handshake; fresh ones save several KiB for each idle connection.
"""

from collections.abc import Callable
from typing import Any

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL.crypto import FILETYPE_ASN1, X509, X509Store, dump_certificate
from OpenSSL.SSL import SSL_CB_ALERT, SSL_CB_READ, Connection, Context
from twisted.logger import Logger

log = Logger(namespace="ocppgw.tls")

ffi: Any = Binding().ffi
lib: Any = Binding().lib

NO_AUTO_CHAIN = 0x08  # SSL_MODE_NO_AUTO_CHAIN: send the chain file as it is, don't build a chain from the clients' CAs
APPLICATION_VERIFICATION: int = lib.X509_V_ERR_APPLICATION_VERIFICATION
_SHA256 = lib.EVP_get_digestbyname(b"SHA256")
_SSL_INDEX = lib.SSL_get_ex_data_X509_STORE_CTX_idx()


class Verification:
    """A chain that OpenSSL asks about, for the time of the question only."""

    __slots__ = ("_store",)

    def __init__(self, store: Any) -> None:
        self._store = store

    @property
    def error(self) -> int:
        """X509_V_ERR_*, 0 when OpenSSL finds nothing wrong."""
        return lib.X509_STORE_CTX_get_error(self._store)  # type: ignore[no-any-return]

    @property
    def depth(self) -> int:
        """Which certificate the error is about: 0 is the leaf."""
        return lib.X509_STORE_CTX_get_error_depth(self._store)  # type: ignore[no-any-return]

    def leaf(self) -> bytes:
        """What the station presented as its own, in DER."""
        return _der(lib.X509_STORE_CTX_get0_cert(self._store))

    def at_fault(self) -> bytes:
        """The certificate that the error is about, in DER."""
        return _der(lib.X509_STORE_CTX_get_current_cert(self._store))

    def fingerprints(self) -> tuple[bytes, ...]:
        """Of the chain, from the leaf to below the root; a leaf that is its own root counts."""
        return tuple(self._each(_fingerprint))

    def chain(self) -> list[bytes]:
        """The same certificates in DER."""
        return self._each(_der)

    def _each(self, function: Callable[[Any], bytes]) -> list[bytes]:
        stack = lib.X509_STORE_CTX_get1_chain(self._store)
        pointers = [lib.sk_X509_value(stack, place) for place in range(lib.sk_X509_num(stack))]
        try:
            return [function(pointer) for pointer in pointers[:-1] or pointers]
        finally:
            for pointer in pointers:
                lib.X509_free(pointer)  # get1 counted a reference for each
            lib.sk_X509_free(stack)


Judge = Callable[[Any, Verification], int]


def on_alert(context: Context, note: Callable[[Any, bool, int], None]) -> None:
    """Call `note` with the connection's application data, whether it was received, and the alert's number.

    OpenSSL calls back for each of some twenty steps of a handshake: this one looks at alerts only, and for the others
    costs half of what pyOpenSSL's own does.
    """

    @ffi.callback("void (*)(const SSL *, int, int)")  # type: ignore[untyped-decorator]
    def informed(ssl: Any, where: int, code: int) -> None:
        if where & SSL_CB_ALERT:
            note(Connection._reverse_mapping[ssl].get_app_data(), bool(where & SSL_CB_READ), code & 0xFF)

    context._info_callback = informed  # lives as long as the context
    lib.SSL_CTX_set_info_callback(context._context, informed)


def set_verify(context: Context, mode: int, judge: Judge) -> None:
    """Ask for client certificates and let `judge` say for each leaf, and for each fault, which error stands (0: none).

    It is called with the connection's application data. The error decides the alert that the station gets.
    """

    @ffi.callback("int (*)(int, X509_STORE_CTX *)")  # type: ignore[untyped-decorator]
    def verified(ok: int, store: Any) -> int:
        if ok and lib.X509_STORE_CTX_get_error_depth(store):
            return 1  # a CA's turn: the leaf's comes last
        try:
            ssl = lib.X509_STORE_CTX_get_ex_data(store, _SSL_INDEX)
            error = judge(Connection._reverse_mapping[ssl].get_app_data(), Verification(store))
        except Exception:  # nothing may get through OpenSSL, and nobody past a fault of ours
            log.failure("a certificate could not be judged")
            error = APPLICATION_VERIFICATION
        lib.X509_STORE_CTX_set_error(store, error)
        return 0 if error else 1

    context._verify_callback = verified  # lives as long as the context and its connections
    lib.SSL_CTX_set_verify(context._context, mode, verified)


def share_store(context: Context, store: X509Store) -> None:
    """Let several contexts verify with one store."""
    lib.X509_STORE_up_ref(store._store)
    lib.SSL_CTX_set_cert_store(context._context, store._store)  # takes the reference


def resumed(connection: Connection) -> bool:
    """Whether the handshake resumed a session."""
    return lib.SSL_session_reused(connection._ssl) == 1  # type: ignore[no-any-return]


def unread(connection: Connection) -> int:
    """How many received bytes OpenSSL has not looked at yet."""
    return lib.BIO_get_mem_data(connection._into_ssl, ffi.NULL)  # type: ignore[no-any-return]


def unsent(connection: Connection) -> int:
    """How many bytes OpenSSL has made that were not fetched yet."""
    return lib.BIO_get_mem_data(connection._from_ssl, ffi.NULL)  # type: ignore[no-any-return]


def shrink(connection: Connection) -> None:
    """Give up the buffers of the handshake, if they are empty."""
    if unread(connection) or unsent(connection):
        return
    connection._into_ssl = lib.BIO_new(lib.BIO_s_mem())
    connection._from_ssl = lib.BIO_new(lib.BIO_s_mem())
    lib.SSL_set_bio(connection._ssl, connection._into_ssl, connection._from_ssl)  # frees the old ones


def error_text(number: int) -> str:
    """OpenSSL's words for an X509_V_ERR_*."""
    return ffi.string(lib.X509_verify_cert_error_string(number)).decode()  # type: ignore[no-any-return]


def peer(connection: Connection) -> tuple[bytes, Callable[[], bytes]] | None:
    """SHA-256 of the leaf that the peer presented and how to get its DER; None without one."""
    certificate = connection.get_peer_certificate()
    if certificate is None:
        return None
    return _fingerprint(certificate._x509), lambda: dump_certificate(FILETYPE_ASN1, certificate)


def _fingerprint(pointer: Any) -> bytes:
    digest = ffi.new("unsigned char[32]")
    lib.X509_digest(pointer, _SHA256, digest, ffi.NULL)
    return bytes(ffi.buffer(digest))


def _der(pointer: Any) -> bytes:
    lib.X509_up_ref(pointer)
    return dump_certificate(FILETYPE_ASN1, X509._from_raw_x509_ptr(pointer))
