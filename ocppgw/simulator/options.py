"""What to simulate. Values only; the command line fills them in."""

import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

from ocppgw.errors import ConfigError

VERSIONS = ("1.6", "2.0.1", "2.1")
MIXED = "mixed"
MAX_ID_LENGTH = 48  # OCPP 2.x identity, Part 4 section 3.1
ID_FIELD = "{id}"


@dataclass(frozen=True)
class SimulatorOptions:
    """A fleet to be simulated; raises ConfigError, naming every unusable value at once.

    - `url`: ws:// or wss:// endpoint, without the station id, which is appended percent-encoded after a `/`; the text
      `{version}` in it becomes 1.6, 2.0.1 or 2.1: `ws://host:8080/ocpp` and `ws://host:8080/ocpp/{version}` both work
    - `version`: one of VERSIONS, or `mixed`: the three in turn
    - `prefix`: ids are prefix + number, from 00001 up
    - `speed`: time factor of everything that people, cars and hardware do (arrivals, charging, meter interval,
      firmware, reboots). Protocol times (heartbeat, boot retry, time limits, back-off) stay as they are
    - `password`: HTTP Basic, user name = station id; None: no credentials
    - `sessions`: charging sessions per station, then it leaves; None: for ever
    - `duration`: seconds until all stations end their sessions and leave; None: no limit
    - `ramp_per_second`: how many stations connect per second
    - `ca_file`: PEM file of the CAs that a wss:// server's certificate may come from; None: the system's
    - `certificate`: PEM file with the stations' client certificate, its chain, and its key unless `key` names another
      file; the text `{id}` in both becomes the station's id, written as in its URL; None: no client certificate
    """

    url: str
    version: str = MIXED
    count: int = 10
    prefix: str = "SIM-"
    speed: float = 1.0
    password: str | None = field(default=None, repr=False)
    sessions: int | None = None
    duration: float | None = None
    seed: int = 1
    ramp_per_second: float = 20.0
    heartbeat: bool = True
    compression: bool = False
    ca_file: Path | None = None
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        problems = [sentence for wrong, sentence in self._checks() if wrong]
        if problems:
            raise ConfigError("simulator: " + "; ".join(problems))

    def _checks(self) -> tuple[tuple[bool, str], ...]:
        return (
            (
                not _usable_url(self.url),
                f"url {_shown(self.url)!r} is not usable: write ws://host:port/ocpp (or wss://)",
            ),
            (
                self.version not in (*VERSIONS, MIXED),
                f"version {self.version!r} is unknown: use 1.6, 2.0.1, 2.1 or mixed",
            ),
            (self.count < 1, f"count is {self.count}: use 1 or more"),
            (
                len(self.station_id(max(self.count, 1) - 1)) > MAX_ID_LENGTH,
                f"prefix {self.prefix!r} is too long: ids have at most {MAX_ID_LENGTH} characters",
            ),
            (not 0 < self.speed < float("inf"), f"speed is {self.speed}: use a factor above 0, 1 is real time"),
            (
                self.sessions is not None and self.sessions < 1,
                f"sessions is {self.sessions}: use 1 or more, or leave out",
            ),
            (self.duration is not None and not self.duration > 0, f"duration is {self.duration}: use seconds above 0"),
            (not self.ramp_per_second > 0, f"ramp_per_second is {self.ramp_per_second}: use a rate above 0"),
            (
                not self.secure and any((self.ca_file, self.certificate, self.key)),
                "certificates are for wss://: write the url so, or leave ca_file, certificate and key out",
            ),
            (self.key is not None and self.certificate is None, "key has no certificate: give it too"),
        )

    @property
    def secure(self) -> bool:
        """Whether stations connect over TLS."""
        return self.url.lower().startswith("wss:")

    def station_id(self, index: int) -> str:
        return f"{self.prefix}{index + 1:05d}"

    def station_version(self, index: int) -> str:
        return VERSIONS[index % len(VERSIONS)] if self.version == MIXED else self.version

    def station_url(self, index: int) -> str:
        """The endpoint of one station: OCPP 1.6J section 3.1.1, 2.x part 4 section 3.1.1."""
        base = self.url.replace("{version}", self.station_version(index)).rstrip("/")
        return f"{base}/{self._quoted_id(index)}"

    def station_certificate(self, index: int) -> Path | None:
        """The file with one station's client certificate."""
        return self._station_file(self.certificate, index)

    def station_key(self, index: int) -> Path | None:
        """The file with its key; None: it is in the certificate's file."""
        return self._station_file(self.key, index)

    def _station_file(self, pattern: str | None, index: int) -> Path | None:
        return None if pattern is None else Path(pattern.replace(ID_FIELD, self._quoted_id(index)))

    def _quoted_id(self, index: int) -> str:
        return urllib.parse.quote(self.station_id(index), safe="")


@dataclass(frozen=True)
class Plan:
    """How one station lives: time factor, charging sessions (None: no end), heartbeats, connectors (None: 1 or 2)."""

    speed: float = 1.0
    sessions: int | None = None
    heartbeat: bool = True
    connectors: int | None = None


def _usable_url(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    return parts.scheme in ("ws", "wss") and bool(parts.hostname) and port != 0 and plain


def _shown(url: str) -> str:
    """The URL as it may appear in a message: credentials that somebody wrote into it are left out."""
    return url.rpartition("@")[2] if "@" in url else url
