"""TLS for the station listeners, on pyOpenSSL and Twisted.

files.py, credentials.py, crl.py, material.py   what is on disk, read and checked as a whole
contexts.py, verify.py, openssl.py              OpenSSL contexts from it, and who is let in
handshake.py, failures.py                       what is noted of a handshake, and what a failed one is called
listener.py                                     the connection creator that swaps contexts, the factory, the transport
reload.py                                       new files while stations are connected
"""

from ocppgw.net.tls.contexts import NONE, REQUEST, REQUIRE, Generation
from ocppgw.net.tls.crl import CrlRules, Crls
from ocppgw.net.tls.listener import StationTls, TlsCreator, TlsFactory
from ocppgw.net.tls.material import (
    CIPHERS,
    CertificateInfo,
    CrlInfo,
    Material,
    TlsFiles,
    TlsMaterialError,
    load,
)
from ocppgw.net.tls.reload import TlsReloader

__all__ = [
    "CIPHERS",
    "NONE",
    "REQUEST",
    "REQUIRE",
    "CertificateInfo",
    "CrlInfo",
    "CrlRules",
    "Crls",
    "Generation",
    "Material",
    "StationTls",
    "TlsCreator",
    "TlsFactory",
    "TlsFiles",
    "TlsMaterialError",
    "TlsReloader",
    "load",
]
