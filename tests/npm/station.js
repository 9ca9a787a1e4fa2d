// A charging station made of the npm package `ocpp-rpc` in strict mode: it holds every message, both ways, against its
// own copy of the official schemas.
//
//   node station.js < plan.json   {url, identity, protocol, calls: [[action, payload], …], answers: {action: payload}}
//
// It connects, makes the calls one after the other, and answers commands until its standard input ends. What happens is
// told as JSON lines: {kind: "answered" | "refused" | "called" | "invalid" | "served" | "closed", …}.

import { createRequire } from 'node:module';
import readline from 'node:readline';
import { RPCClient, createValidator } from 'ocpp-rpc';

// The library looks its schemas up as urn:Reset.req and urn:Reset.conf, but has those of 2.1 under other names.
const schemas21 = createRequire(import.meta.url)('ocpp-rpc/lib/schemas/ocpp2_1.json');
const named = (id) => id.replace(/Request$/, '.req').replace(/Response$/, '.conf');
const validator21 = createValidator('ocpp2.1', schemas21.map((schema) => ({ ...schema, $id: named(schema.$id) })));

const tell = (kind, more) => process.stdout.write(JSON.stringify({ kind, ...more }) + '\n');
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const plan = JSON.parse((await lines.next()).value);

const station = new RPCClient({
  endpoint: plan.url,
  identity: plan.identity,
  protocols: [plan.protocol],
  strictMode: true,
  strictModeValidators: [validator21],
  reconnect: false,
});
station.on('strictValidationFailure', ({ method, error, outbound, isCall }) =>
  tell('invalid', { action: method, error: String(error?.message ?? error), outbound, isCall }));
station.on('badMessage', ({ error }) => tell('invalid', { action: '', error: String(error?.message ?? error) }));
station.on('close', ({ code }) => tell('closed', { code }));
station.handle(({ method, params }) => {
  tell('called', { action: method, payload: params });
  return plan.answers[method];
});

await station.connect();
for (const [action, payload] of plan.calls) {
  try {
    tell('answered', { action, payload: await station.call(action, payload) });
  } catch (error) {
    tell('refused', { action, code: error.rpcErrorCode ?? error.name, error: error.message });
  }
}
tell('served', {});
await lines.next();
await station.close({ code: 1000 });
