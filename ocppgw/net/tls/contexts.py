"""OpenSSL contexts from checked material: one for each kind of listener and each server name.

A context can't be changed once it was used, so new material means a new generation of contexts. With it come new ticket
keys and an empty session cache: no session that was verified under old CAs or CRLs can be resumed.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509Store

from ocppgw.net.tls import openssl
from ocppgw.net.tls.credentials import Credential
from ocppgw.net.tls.handshake import note_alert
from ocppgw.net.tls.material import DEFAULT, Material, TlsFiles, TlsMaterialError
from ocppgw.net.tls.verify import Verifier

# Kinds of listeners: client certificates are not asked for, verified if there is one, or demanded.
NONE = "none"
REQUEST = "request"
REQUIRE = "require"

_MODES: Final = {
    NONE: SSL.VERIFY_NONE,
    REQUEST: SSL.VERIFY_PEER,
    REQUIRE: SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}
_VERSIONS: Final = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}
_OPTIONS: Final = SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION


class Home(NamedTuple):
    """Application data of each context. It keeps all of its kind alive with each connection: OpenSSL may call back to
    the default one even after it handed the connection over (a second ClientHello in TLS 1.3)."""

    verifier: Verifier
    contexts: dict[str, SSL.Context]


@dataclass(frozen=True, slots=True)
class Generation:
    """The contexts of one material; `contexts` has the default of each kind, the others are found by SNI."""

    material: Material
    verifier: Verifier
    contexts: Mapping[str, SSL.Context]


def build(material: Material, kinds: Iterable[str], verifier: Verifier) -> Generation:
    """All contexts for listeners of these kinds. Blocks: call it in a thread.

    Without a CA to verify them with, no client certificate is asked for: some stations break off when they are asked.
    Errors: TlsMaterialError when OpenSSL doesn't take the material.
    """
    if REQUIRE in kinds and not material.authorities:
        raise TlsMaterialError(
            ["tls.ca_path: is empty, but a listener requires client certificates (name the CAs that sign them)"]
        )
    store = X509Store()
    for authority in material.authorities:
        store.add_cert(X509.from_cryptography(authority))
    contexts = {kind: _kind(material, kind, verifier, store) for kind in kinds}
    return Generation(material, verifier, contexts)


def _kind(material: Material, kind: str, verifier: Verifier, store: X509Store) -> SSL.Context:
    """The context of the default name, which hands a connection over to the context of the name it asks for."""
    contexts: dict[str, SSL.Context] = {}
    home = Home(verifier, contexts)
    for name, credentials in material.names.items():
        context = contexts[name] = _context(material.files, credentials)
        context.set_app_data(home)
        if kind != NONE and material.authorities:
            _ask(context, _MODES[kind], material.authorities, verifier, store)
        context.set_session_id(hashlib.sha256(f"{kind} {material.digest}".encode()).digest())

    def choose(connection: SSL.Connection) -> None:
        context = chosen(contexts, connection.get_servername())
        if context is not None:
            connection.set_context(context)

    if len(contexts) > 1:  # with one name to choose from the question costs and tells nothing
        contexts[DEFAULT].set_tlsext_servername_callback(choose)
    return contexts[DEFAULT]


def chosen(contexts: Mapping[str, SSL.Context], server_name: bytes | None) -> SSL.Context | None:
    """The context for an SNI: of exactly this name, else of the domain it is directly in."""
    name = (server_name or b"").decode("ascii", "replace").lower().rstrip(".")
    return contexts.get(name or DEFAULT) or contexts.get("*." + name.partition(".")[2])


def _context(files: TlsFiles, credentials: Iterable[Credential]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(_VERSIONS[files.min_version])
    context.set_options(_OPTIONS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | openssl.NO_AUTO_CHAIN)
    openssl.on_alert(context, note_alert)
    try:
        context.set_cipher_list(files.ciphers.encode("ascii", "replace"))
    except SSL.Error:
        raise TlsMaterialError([f"tls.ciphers: OpenSSL knows none of {files.ciphers!r} for TLS 1.2"]) from None
    _set_sessions(context, files.session_seconds)
    for credential in credentials:
        _use(context, credential)
    return context


def _set_sessions(context: SSL.Context, seconds: int) -> None:
    if seconds:
        context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
        context.set_timeout(seconds)
    else:
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)


def _use(context: SSL.Context, credential: Credential) -> None:
    """Only a chain file gives each of two certificates a chain of its own, so one is written: of what was checked, not
    of what the path may hold by now. The key never touches the disk."""
    try:
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.writelines(certificate.public_bytes(Encoding.PEM) for certificate in credential.chain)
            file.flush()
            context.use_certificate_chain_file(file.name)
        context.use_privatekey(credential.key)
    except SSL.Error as error:
        reasons = ", ".join(reason for _, _, reason in error.args[0] if reason)
        raise TlsMaterialError([f"{credential.path}: OpenSSL does not take this certificate: {reasons}"]) from None
    except OSError as error:
        raise TlsMaterialError([f"{tempfile.gettempdir()}: can't be written: {error.strerror}"]) from None


def _ask(
    context: SSL.Context, mode: int, authorities: Iterable[x509.Certificate], verifier: Verifier, store: X509Store
) -> None:
    openssl.share_store(context, store)
    openssl.set_verify(context, mode, verifier.judge)
    for authority in authorities:
        context.add_client_ca(authority)
