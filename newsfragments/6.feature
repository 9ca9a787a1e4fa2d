The backend can decide answers to stations: is this card valid, may this station boot. Calls go to a Kafka topic (or are listed over HTTP) and are answered within a deadline, with a stated fallback; transactions are stored and answered in any case.

The gateway's own answers follow rules: known tokens from a JSON file with expiry, type and parent, read again on SIGHUP; and the vendors and models that may boot.

Events can hold, beside the original payload, a view that is the same for OCPP 1.6 and 2.x, in fixed units.

Stations that bend the standard, in messages or in the handshake, can be mended by quirk profiles, by vendor, model, firmware or id: named repairs, counted, shown per station, with the original in the event.

Reports that stations send in parts arrive as one `ReportCompleted` event beside the parts, matched to the command that asked for them; notifications of uploads, updates and battery swaps name their command, and a command that cancels another one says so.

GetVariables, SetVariables and their monitoring companions are split to what the station takes in one CALL, and gaps in a transaction's seqNo are flagged in its events.
