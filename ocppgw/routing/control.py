"""Messages between nodes, on their session-control topics (the outside contract, section 3).

ForceDisconnect   taken from you: close it (1012). Obeyed when newEpoch is above the own epoch.
ProveSession      somebody who says he is this station knocks here: is your connection alive?
SessionProof      asking (a ping is out), alive, or dead (it is closed, and will not be served any more)
"""

from collections.abc import Mapping
from typing import Any

from ocppgw.fleet_ports import Claim, SessionRow
from ocppgw.ocpp.timestamps import rfc3339

FORCE_DISCONNECT, PROVE_SESSION, SESSION_PROOF = "ForceDisconnect", "ProveSession", "SessionProof"
ASKING, ALIVE, DEAD = "asking", "alive", "dead"


def force_disconnect(claim: Claim, owner: str, requester: str, reason: str, now: float) -> dict[str, Any]:
    """`owner` held the station until `requester` took it."""
    return {
        "type": FORCE_DISCONNECT,
        "chargePointId": claim.charge_point_id,
        "requestedAt": rfc3339(now).decode(),
        "reason": reason,
        "ownerNodeId": owner,
        "requesterNodeId": requester,
        "newOwnerNodeId": requester,
        "newEpoch": claim.epoch,
    }


def prove_session(held: SessionRow, challenge_id: str, requester: str, topic: str, now: float) -> dict[str, Any]:
    """To the node that holds it; the proof goes to `topic`."""
    return {
        "type": PROVE_SESSION,
        "chargePointId": held.charge_point_id,
        "requestedAt": rfc3339(now).decode(),
        "challengeId": challenge_id,
        "ownerNodeId": held.node_id,
        "requesterNodeId": requester,
        "requesterTopic": topic,
        "epoch": held.epoch,
    }


def session_proof(challenge: Mapping[str, Any], owner: str, state: str, now: float) -> dict[str, Any]:
    return {
        "type": SESSION_PROOF,
        "chargePointId": challenge["chargePointId"],
        "requestedAt": rfc3339(now).decode(),
        "challengeId": challenge["challengeId"],
        "ownerNodeId": owner,
        "state": state,
        "epoch": challenge["epoch"],
    }
