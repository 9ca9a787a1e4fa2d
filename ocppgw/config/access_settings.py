"""Settings of who may connect: TLS, the stations' identities, admission by address and rate, certificates."""

from typing import Literal

from pydantic import Field

from ocppgw.config.kinds import (
    Addresses,
    ClientAuth,
    Names,
    Networks,
    Paths,
    RegularExpression,
    ServerNames,
)
from ocppgw.config.section import Section, env


class TlsSettings(Section):
    """TLS on the stations' listener: certificates, client certificates and their revocation. Files are read again
    after SIGHUP and on a timer; a set that can't be used changes nothing."""

    enabled: bool = Field(
        default=False, description="websocket.port speaks TLS.", json_schema_extra=env("OCPP_TLS_ENABLED")
    )
    client_auth: ClientAuth = Field(
        default="request",
        description="Client certificates on websocket.port: none (not asked for), request (checked when there is one) "
        "or require. Without ca_path none can be checked, and none are asked for.",
        json_schema_extra=env("OCPP_TLS_CLIENT_AUTH"),
    )
    cert_path: Paths = Field(
        default=(),
        strict=False,
        description="PEM files of this gateway's certificates, each with its chain, the certificate first: one RSA and "
        "one ECDSA serve all cipher suites of OCPP. Relative paths, here and below, are relative to the folder of this "
        "file.",
        json_schema_extra=env("OCPP_TLS_CERT_PATH"),
    )
    key_path: Paths = Field(
        default=(),
        strict=False,
        description="PEM files of their keys, in the same order; empty when the certificate files hold them.",
        json_schema_extra=env("OCPP_TLS_KEY_PATH"),
    )
    sni: ServerNames = Field(
        default={},
        description="Other certificates by the name a station asks for (SNI), each file with key and chain, such as "
        '{ "ocpp.example.com" = ["rsa.pem", "ecdsa.pem"] }.',
    )
    ca_path: Paths = Field(
        default=(),
        strict=False,
        description="PEM files of the CAs that sign stations' certificates.",
        json_schema_extra=env("OCPP_TLS_CA_PATH"),
    )
    crl_path: Paths = Field(
        default=(),
        strict=False,
        description="Certificate revocation lists of these CAs, PEM (several in one file) or DER.",
        json_schema_extra=env("OCPP_TLS_CRL_PATH"),
    )
    crl_check: Literal["none", "leaf", "chain"] = Field(
        default="leaf",
        description="What is looked up in the CRLs: the station's certificate (leaf), also the CAs between it and the "
        "root (chain), or nothing. Without crl_path nothing.",
    )
    crl_expired: Literal["refuse", "accept"] = Field(
        default="refuse", description="Stations whose CA's CRL is out of date."
    )
    crl_missing: Literal["refuse", "accept"] = Field(
        default="refuse", description="Stations whose CA has no CRL in crl_path."
    )
    min_version: Literal["TLSv1.2", "TLSv1.3"] = Field(
        default="TLSv1.2", description="Lowest TLS version.", json_schema_extra=env("OCPP_TLS_MIN_VERSION")
    )
    ciphers: str = Field(
        default="ECDHE+AESGCM:ECDHE+CHACHA20:AES128-GCM-SHA256:AES256-GCM-SHA384",
        min_length=1,
        max_length=2000,
        description="Cipher suites of TLS 1.2, as an OpenSSL list; the default has the four that OCPP names. Those of "
        "TLS 1.3 are always on.",
        json_schema_extra=env("OCPP_TLS_CIPHERS"),
    )
    client_organizations: Names = Field(
        default=(),
        strict=False,
        description="Organizations (O) one of which a station's certificate must name; empty: any.",
    )
    session_seconds: int = Field(
        default=3600, ge=0, le=86_400, description="How long a TLS session may be resumed, seconds; 0: never."
    )
    reload_seconds: int = Field(
        default=300,
        ge=0,
        le=86_400,
        description="How often certificates, keys and CAs are looked at for changes, seconds; 0: on SIGHUP only.",
        json_schema_extra=env("OCPP_TLS_RELOAD_SECONDS"),
    )
    crl_reload_seconds: int = Field(
        default=300,
        ge=0,
        le=86_400,
        description="How often CRLs are looked at for changes, seconds; 0: on SIGHUP only.",
        json_schema_extra=env("OCPP_TLS_CRL_RELOAD_SECONDS"),
    )


class StationsSettings(Section):
    """Which stations are let in, and as whom."""

    unknown: Literal["refuse", "admit"] = Field(
        default="refuse", description="What happens to a station without a stored identity: refuse or admit."
    )
    unknown_tenant: str = Field(
        default="dev", min_length=1, max_length=200, description='Tenant of stations let in by unknown = "admit".'
    )
    admit_unknown_anywhere: bool = Field(
        default=False,
        description='Allow unknown = "admit" although websocket.host is not loopback: anybody who can reach the port '
        "is then a station.",
    )
    id_pattern: RegularExpression = Field(
        default=r"[A-Za-z0-9*\-_=:+|@.]{1,48}",
        min_length=1,
        max_length=500,
        description="Regular expression that the whole percent-decoded station id must match; ids of more than 48 "
        "characters are refused in any case.",
    )
    identities_dir: str = Field(
        default="",
        description="Folder with one identity JSON file per station, *.json; empty: none. A relative path is relative "
        "to the folder of this file.",
    )
    auth_mode: Literal["basic", "token", "mtls"] = Field(
        default="basic",
        description="How a station authenticates whose identity names no way: basic, token or mtls.",
        json_schema_extra=env("OCPP_AUTH_MODE"),
    )
    require_cert_binding: bool = Field(
        default=True,
        description="Refuse client certificates of stations whose identity binds none (auth.certificates); false lets "
        "auth.subject or auth.fingerprint stand in.",
        json_schema_extra=env("OCPP_REQUIRE_CERT_BINDING"),
    )
    hash_algorithm: Literal["sha256", "scrypt"] = Field(
        default="scrypt",
        description="How secrets are hashed that stations get through this gateway; stored ones say so themselves.",
        json_schema_extra=env("OCPP_AUTH_HASH_ALGORITHM"),
    )
    scrypt_n: int = Field(
        default=16384,
        ge=2,
        le=1_048_576,
        description="CPU and memory cost of scrypt (RFC 7914), a power of 2; stored hashes were made with it.",
        json_schema_extra=env("OCPP_AUTH_SCRYPT_N"),
    )
    scrypt_r: int = Field(
        default=8, ge=1, le=32, description="Block size of scrypt.", json_schema_extra=env("OCPP_AUTH_SCRYPT_R")
    )
    scrypt_p: int = Field(
        default=1, ge=1, le=16, description="Parallelisation of scrypt.", json_schema_extra=env("OCPP_AUTH_SCRYPT_P")
    )
    scrypt_keylen: int = Field(
        default=32,
        ge=32,
        le=64,
        description="Length of scrypt's digest, bytes.",
        json_schema_extra=env("OCPP_AUTH_SCRYPT_KEYLEN"),
    )
    verified_cache_seconds: float = Field(
        default=300.0,
        ge=0,
        le=3600,
        description="How long a secret that scrypt found right is not hashed again, seconds; 0: always hash.",
    )
    revoked_ttl_seconds: int = Field(
        default=0,
        ge=0,
        description="How long a revoked certificate stays on the denylist, seconds; 0: for ever.",
        json_schema_extra=env("OCPP_REVOKED_TTL_SECONDS"),
    )


class AdmissionSettings(Section):
    """Who may connect at all, judged by address and rate."""

    allowed_ips: Addresses = Field(
        default=(),
        strict=False,
        description="Addresses stations may come from; with allowed_cidrs also empty: any.",
        json_schema_extra=env("OCPP_ALLOWED_IPS"),
    )
    allowed_cidrs: Networks = Field(
        default=(),
        strict=False,
        description="Networks stations may come from; with allowed_ips also empty: any.",
        json_schema_extra=env("OCPP_ALLOWED_CIDRS"),
    )
    flood_log_cooldown_seconds: float = Field(
        default=300.0,
        ge=0,
        le=86_400,
        description="Refusals of one address are logged once in this time, seconds.",
        json_schema_extra=env("FLOOD_LOG_COOLDOWN"),
    )
    trusted_proxies: Networks = Field(
        default=(),
        strict=False,
        description="Reverse proxies and load balancers that are believed about a station's address (proxy_header, "
        "websocket.proxy_protocol). Limits per address do not hold for them, but for the stations behind them.",
    )
    proxy_header: Literal["none", "x-forwarded-for", "forwarded"] = Field(
        default="none",
        description="Header in which these proxies name the station's address; they must set it on every request. "
        "OCPP_TRUST_PROXY = true means x-forwarded-for.",
    )
    accepts_per_second: int = Field(
        default=1000,
        ge=0,
        le=100_000,
        description="New connections a second on each port; more wait until it is their turn. 0: no limit.",
    )
    max_connections_per_address: int = Field(
        default=0, ge=0, le=1_000_000, description="Connections of one address at once; above it 429. 0: no limit."
    )
    max_half_open_per_address: int = Field(
        default=500,
        ge=0,
        le=1_000_000,
        description="Unfinished handshakes of one address at once; above it 429. 0: no limit.",
    )
    handshakes_per_minute_per_address: int = Field(
        default=6000,
        ge=0,
        le=1_000_000,
        description="Handshakes of one address a minute; above it 429. 0: no limit.",
    )
    refusals_per_minute_per_address: int = Field(
        default=300,
        ge=0,
        le=1_000_000,
        description="Refused handshakes of one address a minute; above it 429, also for good ones. 0: no limit.",
    )
    min_security_profile: int = Field(
        default=0,
        ge=0,
        le=3,
        description="Lowest OCPP security profile that is let in: 0 no proof, 1 password, 2 password over TLS, 3 "
        "client certificate.",
    )
    attempts_kept: int = Field(
        default=5000,
        ge=100,
        le=1_000_000,
        description="Connection attempts kept for `ocppgw explain`; at most 20 of one station.",
    )
    swaps_per_minute: int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="Times a minute a station's connection may be replaced by a newer one; above it 429.",
    )


class SigningSettings(Section):
    """Certificates that stations ask for (SignCertificate)."""

    mode: Literal["reject", "backend", "local"] = Field(
        default="reject",
        description="reject: answered Rejected. backend: answered Accepted; the backend signs and sends "
        "CertificateSigned as a command. local: signed here, with the CA below.",
    )
    ca_cert_path: str = Field(
        default="",
        description="PEM file of the CA's certificate, and of the chain above it. Relative to the folder of this file.",
    )
    ca_key_path: str = Field(default="", description="PEM file of the CA's key.")
    valid_days: int = Field(
        default=365, ge=1, le=3650, description="How long the certificates signed here are valid, days."
    )
