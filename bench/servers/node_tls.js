// Node's own TLS server: shakes hands, and closes when the client does. Settings and answers as in pyopenssl_tls.py.
"use strict";

const fs = require("node:fs");
const tls = require("node:tls");

const SESSION_SECONDS = 3600;
const TLS_1_3_SUITES = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"; // OpenSSL's default

const settings = JSON.parse(process.argv[2]);
const credentials = fs.readFileSync(settings.credentials);

function seen(socket) {
  return JSON.stringify({ station: socket.getPeerCertificate().subject.CN, resumed: socket.isSessionReused() }) + "\n";
}

const server = tls.createServer(
  {
    key: credentials,
    cert: credentials,
    ca: fs.readFileSync(settings.authorities),
    crl: settings.crls.map((path) => fs.readFileSync(path)),
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: "TLSv1.2",
    ciphers: `${TLS_1_3_SUITES}:${settings.ciphers}`,
    honorCipherOrder: true,
    sessionTimeout: SESSION_SECONDS,
    noDelay: true,
  },
  (socket) => {
    socket.on("error", () => {}); // cut
    socket.on("data", () => socket.write(seen(socket)));
  },
);
server.on("tlsClientError", () => {}); // refused
server.listen({ port: 0, host: "127.0.0.1", backlog: 512 }, () => {
  const about = `Node ${process.version}, OpenSSL ${process.versions.openssl}`;
  console.log(JSON.stringify({ port: server.address().port, about }));
});
