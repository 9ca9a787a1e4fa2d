"""Certificates made and signed here: a development PKI to try TLS with, and the local CA that signs stations' requests.

pem.py         PEM text ↔ certificates and keys; Credentials: a certificate with its key and chain
files.py       the same in files: keys readable by their owner only, files replaced whole or not at all
issuing.py     what each kind of certificate may do, and the making of CA, server and station certificates
revocation.py  CRLs
signer.py      a station's certificate request: what is wrong with it, and its certificate (SignCertificate)
folder.py      a development PKI in a folder: `ocppgw pki`

Pure but for files.py and folder.py; no Twisted. The time is an argument everywhere: seconds since the epoch.
"""

from ocppgw.pki.folder import PkiFolder
from ocppgw.pki.issuing import make_issuing, make_root, make_server, make_station, new_key
from ocppgw.pki.pem import Credentials, PkiError
from ocppgw.pki.revocation import make_crl
from ocppgw.pki.signer import Issued, Signer

__all__ = [
    "Credentials",
    "Issued",
    "PkiError",
    "PkiFolder",
    "Signer",
    "make_crl",
    "make_issuing",
    "make_root",
    "make_server",
    "make_station",
    "new_key",
]
