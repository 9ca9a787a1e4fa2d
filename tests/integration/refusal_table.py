"""Who is refused and why, and who is let in although it looks like it: requests, credentials, the station's own rules.

One row for each case (see `refusal_rows`); a row without a Reason is let in.
"""

from typing import Any

from ocppgw.access.refusals import Reason
from tests.integration.knocking import Tls
from tests.integration.refusal_rows import (
    KNOWN,
    OVER_TLS,
    PASSWORD,
    SALT,
    TOKEN,
    bound_to,
    fingerprint,
    password_hash,
    row,
    token_hash,
)
from tests.integration.station import basic

RAW_KEY = bytes([0xFF, 0x3A, 0x00, 0x80]) + bytes(range(0x10, 0x20))  # 20 octets, with 0xFF, ':' and NUL
UTF8 = "pä:ß-充电"
HASH = password_hash()
DISABLED: dict[str, Any] = {"members": {"status": "disabled"}}
NO_VERSION = {"Connection": "Upgrade", "Upgrade": "websocket"}
WRONG_VERSION = {**NO_VERSION, "Sec-WebSocket-Version": "7"}

REQUESTS = [
    row("a POST", Reason.MALFORMED_REQUEST, method="POST", detail="the method is not GET"),
    row("HTTP/1.0", Reason.MALFORMED_REQUEST, version="HTTP/1.0", detail="the HTTP version is not 1.1"),
    row("no WebSocket version", Reason.MALFORMED_REQUEST, upgrade=NO_VERSION, detail="RFC 6455 section 4.2.1"),
    row("another WebSocket version", Reason.MALFORMED_REQUEST, upgrade=WRONG_VERSION, detail="RFC 6455"),
    row("no HTTP at all", Reason.MALFORMED_REQUEST, raw=b"RFB 003.008\r\n\r\n"),
    row("more than 16 KiB", Reason.MALFORMED_REQUEST, headers={"X-Long": "x" * 17_000}, detail="larger than 16 KiB"),
    row("a path without end", Reason.MALFORMED_REQUEST, path="/ocpp/1.6/" + "x" * 8_200, detail="too long"),
    row("a path in Latin-1", Reason.MALFORMED_REQUEST, path="/ocpp/1.6/CP-\xe4", detail="not visible ASCII"),
    row("a header smuggled in", Reason.MALFORMED_REQUEST, headers={"X-A": "b\nX-C: d"}, detail="not CRLF"),
    row("a line end of Unicode", Reason.MALFORMED_REQUEST, headers={"X-A": "b\x85X-C: d"}, detail="not CRLF"),
    row("a browser", Reason.NOT_WEBSOCKET, upgrade={}, path="/"),
    row("a station's URL in a browser", Reason.NOT_WEBSOCKET, upgrade={}, **KNOWN),
    row("a scanner for secrets", Reason.SUSPICIOUS_PATH, path="/.env"),
    row("a scanner without upgrade", Reason.SUSPICIOUS_PATH, path="/.env.local", upgrade={}),
    row("a scanner for passwords", Reason.SUSPICIOUS_PATH, path="/cgi-bin/%2e%2e/%2e%2e/etc/passwd"),
    row("a scanner for logins", Reason.SUSPICIOUS_PATH, path="/wp-admin/setup.php"),
    row("a scanner for databases", Reason.SUSPICIOUS_PATH, path="/SELECT%20a%20FROM%20b"),
    row("dots in front", Reason.SUSPICIOUS_PATH, path="/x/../ocpp/1.6/{id}", **KNOWN),
    row("no path", Reason.UNKNOWN_PATH, path="/"),
    row("a URL without id", Reason.UNKNOWN_PATH, path="/ocpp/1.6"),
    row("a URL that ends in a slash", Reason.UNKNOWN_PATH, path="/ocpp/1.6/{id}/", **KNOWN),
    row("a version that there is not", Reason.UNKNOWN_PATH, path="/ocpp/3.0/{id}", **KNOWN),
    row("a path in capitals", Reason.UNKNOWN_PATH, path="/OCPP/1.6/{id}", **KNOWN),
    row("an id with a slash in it", Reason.MALFORMED_ID, path="/ocpp/1.6/CP%2F1", detail="holds '/'"),
    row("an id with NUL", Reason.MALFORMED_ID, path="/ocpp/1.6/CP%00", detail="control characters"),
    row("an id of 49 characters", Reason.MALFORMED_ID, path="/ocpp/1.6/" + "C" * 49, detail="48 characters"),
    row("a percent sign alone", Reason.MALFORMED_ID, path="/ocpp/1.6/CP%", detail="starts no escape"),
    row("an id in Latin-1", Reason.MALFORMED_ID, path="/ocpp/1.6/CP%E4", detail="UTF-8"),
    row("an id with a blank", Reason.MALFORMED_ID, path="/ocpp/1.6/CP%201", detail="id pattern"),
    row("a colon on 2.0.1", Reason.MALFORMED_ID, path="/ocpp/2.0.1/CP:1", offers="ocpp2.0.1", detail="OCPP 2.x"),
    row("no subprotocol", Reason.NO_SUBPROTOCOL, offers=None, **KNOWN),
    row("an empty subprotocol", Reason.NO_SUBPROTOCOL, offers="", **KNOWN),
    row("an unknown subprotocol", Reason.SUBPROTOCOL_NOT_SERVED, offers="ocpp0.1", **KNOWN),
    row("old subprotocols", Reason.SUBPROTOCOL_NOT_SERVED, offers="ocpp1.5, ocpp1.2", **KNOWN),
    row("another version than the path's", Reason.SUBPROTOCOL_MISMATCH, offers="ocpp2.0.1", **KNOWN),
    row("an address not allowed", Reason.ADDRESS_NOT_ALLOWED, source="127.9.0.1", **KNOWN),
    row("the one address allowed there", source="127.9.0.2", **KNOWN),
    row("an id that looks like a scanner's path", id="CP-ADMIN-1", **KNOWN),
    row("an id called admin", id="admin", **KNOWN),
    row("an id called like a version", id="1.6", **KNOWN),
    row("an id of 48 characters", id="C" * 48, **KNOWN),
    row("an id in escapes", id="CP+1@a", path="/ocpp/1.6/CP%2B1%40a", **KNOWN),
    row("a colon on 1.6", id="CP:1", user="CP-1", stored=password_hash(username="CP-1"), password=PASSWORD),
    row("a prefix that a proxy left", path="/wp-admin/ocpp/1.6/{id}", **KNOWN),
    row("a query", path="/ocpp/1.6/{id}?from=../etc/passwd", **KNOWN),
    row("capitals in version and subprotocol", path="/ocpp/1.6J/{id}", offers="OCPP1.6", **KNOWN),
    row("no version in the path", path="/ocpp/{id}", offers="ocpp2.1", **KNOWN),
    row("a served subprotocol after another", offers="ocpp0.1, ocpp1.6", **KNOWN),
    row("a proxy's header, of no listed proxy", headers={"X-Forwarded-For": "192.0.2.9"}, **KNOWN),
]

CREDENTIALS = [
    row("no credentials", Reason.CREDENTIALS_MISSING, stored=HASH),
    row("no credentials, of nobody", Reason.CREDENTIALS_MISSING),
    row("a header with nothing in it", Reason.CREDENTIALS_MISSING, stored=HASH, headers={"Authorization": " "}),
    row("no base64", Reason.CREDENTIALS_MALFORMED, stored=HASH, headers={"Authorization": "Basic !"}, detail="base64"),
    row(
        "no colon", Reason.CREDENTIALS_MALFORMED, stored=HASH, headers={"Authorization": "Basic Q1A="}, detail="no ':'"
    ),
    row("Digest", Reason.CREDENTIALS_MALFORMED, stored=HASH, headers={"Authorization": "Digest a=b"}, detail="neither"),
    row("Bearer and no token", Reason.CREDENTIALS_MALFORMED, stored=token_hash(), headers={"Authorization": "Bearer"}),
    row("a wrong password", Reason.CREDENTIALS_WRONG, stored=HASH, password="guess"),
    row(
        "a wrong password, scrypt", Reason.CREDENTIALS_WRONG, stored=password_hash(algorithm="scrypt"), password="guess"
    ),
    row("a password in other case", Reason.CREDENTIALS_WRONG, stored=HASH, password=PASSWORD.upper()),
    row("an empty password", Reason.CREDENTIALS_WRONG, stored=HASH, password=""),
    row("the hash as password", Reason.CREDENTIALS_WRONG, stored=HASH, password=HASH["secretHash"]),
    row("a key in hex", Reason.CREDENTIALS_WRONG, stored=password_hash(RAW_KEY), password=RAW_KEY.hex()),
    row("a wrong token", Reason.CREDENTIALS_WRONG, stored=token_hash(), token="guess-guess"),
    row("another user name", Reason.USER_NAME_WRONG, user="CP-1", **KNOWN),
    row("its id in small letters", Reason.USER_NAME_WRONG, id="CP-BIG", user="cp-big", **KNOWN),
    row(
        "a token for a password", Reason.CREDENTIALS_TYPE_NOT_ALLOWED, stored=HASH, token=TOKEN, detail="accepts basic"
    ),
    row("a password for a token", Reason.CREDENTIALS_TYPE_NOT_ALLOWED, stored=token_hash(), password=TOKEN),
    row("an unknown station", Reason.UNKNOWN_STATION, password=PASSWORD),
    row("an unknown station with a token", Reason.UNKNOWN_STATION, headers={"X-Api-Key": TOKEN}),
    row("an id in capitals", Reason.UNKNOWN_STATION, id="cp-small", path="/ocpp/1.6/CP-SMALL", **KNOWN),
    row(
        "an identity that can't be used",
        Reason.IDENTITY_INVALID,
        members={"stationId": 7},
        is_valid=False,
        password=PASSWORD,
        detail="stationId must be a text",
    ),
    row(
        "a password that was stored as it is",
        Reason.IDENTITY_INVALID,
        stored={"type": "basic", "secretHash": PASSWORD, "secretSalt": SALT},
        is_valid=False,
        password=PASSWORD,
        detail="plain secrets are refused",
    ),
    row("a password for a certificate", Reason.CLIENT_CERTIFICATE_REQUIRED, stored=bound_to("ec"), password=PASSWORD),
    row("nothing for a certificate", Reason.CLIENT_CERTIFICATE_MISSING, stored=bound_to("ec"), **OVER_TLS),
    row(
        "a certificate that nobody asks for",
        Reason.CLIENT_CERTIFICATE_MISSING,
        stored=bound_to("ec"),
        port="tls",
        tls=Tls("ec"),
    ),
    row("the right password", **KNOWN),
    row("the right password, scrypt", stored=password_hash(algorithm="scrypt"), password=PASSWORD),
    row(
        "Basic in small letters",
        id="CP-B",
        stored=HASH,
        headers={"authorization": "b" + basic("CP-B", PASSWORD)["Authorization"][1:]},
    ),
    row("a key of 20 octets", stored=password_hash(RAW_KEY), password=RAW_KEY),
    row("a key in hex, by permission", stored=password_hash(RAW_KEY, acceptHexSecret=True), password=RAW_KEY.hex()),
    row("a password in UTF-8", stored=password_hash(UTF8), password=UTF8),
    row("a user name of its own", stored=password_hash(username="SN-4711"), user="SN-4711", password=PASSWORD),
    row("its id beside a user name", stored=password_hash(username="SN-4712"), password=PASSWORD),
    row(
        "its next password",
        stored=password_hash("old", nextSecretHash=HASH["secretHash"], nextSecretSalt=SALT),
        password=PASSWORD,
    ),
    row(
        "its old password, as long as the next was not used",
        stored=password_hash(nextSecretHash="ab" * 32, nextSecretSalt=SALT),
        password=PASSWORD,
    ),
    row("a token", stored=token_hash(), token=TOKEN),
    row("a token as API key", stored=token_hash(), headers={"X-Api-Key": TOKEN}),
    row("a token beside a password", stored={**HASH, **token_hash(allowedTypes=["basic", "token"])}, token=TOKEN),
]

RULES = [
    row("a disabled station", Reason.IDENTITY_DISABLED, password=PASSWORD, **DISABLED),
    row(
        "a disabled station's certificate",
        Reason.IDENTITY_DISABLED,
        stored=bound_to("ec"),
        certificate="ec",
        **DISABLED,
    ),
    row("a disabled station's wrong password", Reason.CREDENTIALS_WRONG, password="guess", **DISABLED),
    row(
        "another address than its own",
        Reason.ADDRESS_NOT_ALLOWED_FOR_STATION,
        members={"allowedIps": ["127.0.0.2"]},
        password=PASSWORD,
    ),
    row(
        "another network than its own",
        Reason.ADDRESS_NOT_ALLOWED_FOR_STATION,
        members={"allowedCidrs": ["10.0.0.0/8"]},
        password=PASSWORD,
    ),
    row("another version", Reason.PROTOCOL_NOT_ALLOWED, members={"allowedProtocols": ["2.0.1"]}, password=PASSWORD),
    row(
        "TLS taken away",
        Reason.SECURITY_PROFILE_LOWERED,
        held=[OVER_TLS],
        detail="profile 1; it has used profile 2",
        **KNOWN,
    ),
    row(
        "a password after a certificate",
        Reason.SECURITY_PROFILE_LOWERED,
        stored={**HASH, "allowedTypes": ["basic", "mtls"], "certificates": [fingerprint("ec")]},
        password=PASSWORD,
        before=[{"port": "mtls", "tls": Tls("ec")}],
        detail="profile 2; it has used profile 3",
        **OVER_TLS,
    ),
    row("two stations under one id", Reason.DUPLICATE_FLAPPING, held=[{}, {}], **KNOWN),
    row("its own address", members={"allowedIps": ["127.0.0.2"]}, source="127.0.0.2", password=PASSWORD),
    row("its own network", members={"allowedIps": ["::1"], "allowedCidrs": ["127.0.0.0/8"]}, password=PASSWORD),
    row("its own version", members={"allowedProtocols": ["2.0.1", "1.6j"]}, password=PASSWORD),
    row("a lower profile, by permission", stored=password_hash(lowestProfile=1), password=PASSWORD, before=[OVER_TLS]),
    row("a higher profile", before=[{"port": "plain", "tls": None}], **OVER_TLS, **KNOWN),
    row("the newest of two connections", held=[{}], **KNOWN),
]
