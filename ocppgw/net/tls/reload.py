"""New certificates, keys, CAs and CRLs under connected stations: read, check, swap; else keep the old and say so."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ocppgw.errors import OcppgwError
from ocppgw.net.tls.contexts import Generation
from ocppgw.net.tls.crl import Crls
from ocppgw.net.tls.listener import TlsCreator
from ocppgw.net.tls.material import Material, TlsFiles, load

log = Logger(namespace="ocppgw.tls")

SWAPPED, UNCHANGED, KEPT = "swapped", "unchanged", "kept"


class TlsReloader:
    """Reads the files again when asked, one run at a time.

    `in_thread` runs a function in a thread; `clock` gives seconds since the epoch; `reported(why, outcome)` is for
    metrics, with the outcome swapped, unchanged or kept; `crls_changed` gets the CRLs after each swap, to look at the
    stations that are connected.
    """

    def __init__(
        self,
        files: TlsFiles,
        creator: TlsCreator,
        in_thread: Callable[[Callable[[], Any]], "Deferred[Any]"],
        clock: Callable[[], float],
        reported: Callable[[str, str], None],
        crls_changed: Callable[[Crls], None],
    ) -> None:
        self._files = files
        self._creator = creator
        self._in_thread = in_thread
        self._clock = clock
        self._reported = reported
        self._crls_changed = crls_changed
        self._running = False
        self._waiting: list[tuple[str, Deferred[str]]] = []
        self._warned: frozenset[str] = frozenset()

    def load_first(self) -> None:
        """Before the listeners open, when there is nothing old to keep. Blocks. Errors: TlsMaterialError."""
        material = load(self._files, self._clock())
        self._warn(material)
        self._creator.swap(self._creator.prepare(material))

    def reload(self, why: str) -> "Deferred[str]":
        """Fires with what came of it: "swapped", "unchanged" or "kept: …".

        While a run is on, all who ask wait for one more run together: what they know to be changed may already have
        been read.
        """
        answer: Deferred[str] = Deferred()
        self._waiting.append((why, answer))
        if not self._running:
            self._run()
        return answer

    def _run(self) -> None:
        asked, self._waiting = self._waiting, []
        self._running = True
        self._in_thread(self._read).addCallback(self._loaded).addErrback(self._kept).addCallback(self._ended, asked)

    def _read(self) -> tuple[Material, Generation | None]:
        """(In the thread) The material and, if it is new, its contexts."""
        material = load(self._files, self._clock())
        current = self._creator.generation
        changed = current is None or current.material.digest != material.digest
        return material, self._creator.prepare(material) if changed else None

    def _loaded(self, loaded: tuple[Material, Generation | None]) -> str:
        material, generation = loaded
        self._warn(material)
        if generation is None:
            return UNCHANGED
        self._creator.swap(generation)
        log.info(
            "TLS files taken over: {certificates} server certificates, {authorities} CAs, {crls} CRLs",
            certificates=len(material.certificates),
            authorities=len(material.authorities),
            crls=len(material.revocation_lists),
        )
        try:
            self._crls_changed(material.crls)
        except Exception:  # the swap is done all the same
            log.failure("the connected stations could not be checked against the new CRLs")
        return SWAPPED

    def _warn(self, material: Material) -> None:
        """Each doubt once, not at every turn of the timer."""
        for warning in material.warnings:
            if warning not in self._warned:
                log.warn("TLS files: {doubt}", doubt=warning)
        self._warned = frozenset(material.warnings)

    def _kept(self, failure: Failure) -> str:
        error = failure.value
        if isinstance(error, OcppgwError):
            log.error("TLS files not taken over, the old ones stay in use: {fault}", fault=str(error), code=error.code)
            return f"{KEPT}: {error}"
        log.failure("TLS files could not be loaded, the old ones stay in use", failure)
        return f"{KEPT}: {type(error).__name__}"

    def _ended(self, outcome: str, asked: list[tuple[str, "Deferred[str]"]]) -> None:
        self._running = False
        for why in dict.fromkeys(why for why, _ in asked):
            self._reported(why, outcome.partition(":")[0])
        if self._waiting:
            self._run()
        for _, answer in asked:
            answer.callback(outcome)
