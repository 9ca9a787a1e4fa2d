"""twistd plugin: `twistd ocppgw`. Kept to one line so that listing plugins imports nothing of ocppgw."""

from twisted.application.service import ServiceMaker

ocppgw = ServiceMaker("ocppgw", "ocppgw.tap", "OCPP gateway: charging stations to events and back.", "ocppgw")
