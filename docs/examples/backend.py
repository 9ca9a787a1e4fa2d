"""A small backend: it decides which cards may charge, and which stations may boot. Needs only kafka-python.

    python backend.py localhost:9092 cards.json

cards.json: {"B4F62CEF": "Accepted", "00112233": "Blocked"}. Stations of the vendor "Unknown" have to wait (Pending).
Several of these may run: Kafka shares the calls among them.
"""

import json
import sys

from kafka import KafkaConsumer, KafkaProducer


def decide(call, cards):
    """The payload of the answer, or None when this backend has nothing to say to such a call."""
    payload, version = call["payload"], call["ocppVersion"]
    if call["action"] == "Authorize":
        if version == "1.6J":
            return {"idTagInfo": {"status": cards.get(payload["idTag"], "Invalid")}}
        return {"idTokenInfo": {"status": cards.get(payload["idToken"]["idToken"], "Unknown")}}
    if call["action"] == "BootNotification":
        vendor = payload["chargePointVendor"] if version == "1.6J" else payload["chargingStation"]["vendorName"]
        return {"status": "Pending" if vendor == "Unknown" else "Accepted", "interval": 300}
    return None


def answer_to(call, cards):
    """A CallResponse. A fault of ours must not keep the other stations waiting."""
    try:
        payload = decide(call, cards)
    except (KeyError, TypeError) as fault:
        return {"correlationId": call["correlationId"], "error": {"code": "InternalError", "description": repr(fault)}}
    if payload is None:
        error = {"code": "NotSupported", "description": f"{call['action']} is not decided here"}
        return {"correlationId": call["correlationId"], "error": error}
    return {"correlationId": call["correlationId"], "payload": payload}


def main(brokers, cards_file):
    with open(cards_file) as file:
        cards = json.load(file)
    consumer = KafkaConsumer(
        "cpms.call.requests",
        bootstrap_servers=brokers,
        group_id="my-decisions",
        auto_offset_reset="latest",  # an old call has had its fallback long since
    )
    producer = KafkaProducer(bootstrap_servers=brokers, acks="all", linger_ms=0)
    print("deciding", flush=True)
    for record in consumer:
        call = json.loads(record.value)
        answer = json.dumps(answer_to(call, cards)).encode()
        producer.send(call["replyTo"], key=call["chargePointId"].encode(), value=answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
