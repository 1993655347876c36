// What Node's HTTP clients (fetch, node:http, ws) get from the site of server.py.
'use strict';

const { createHash } = require('node:crypto');
const http = require('node:http');
// Debian's package node-ws; a Node from elsewhere does not look there by itself.
const WebSocket = require('/usr/share/nodejs/ws');

const site = 'http://site.example';
const body = Buffer.alloc(256 * 1200, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
const fields = ['content-type', 'content-length', 'transfer-encoding', 'content-encoding', 'x-case', 'location'];
const digest = (data) => `${data.length} ${createHash('sha256').update(data).digest('hex')}`;

async function show(what, answer) {
  const kept = fields.filter((name) => answer.headers.has(name)).map((name) => `${name}=${answer.headers.get(name)}`);
  console.log(what, answer.status, answer.redirected, ...kept, digest(Buffer.from(await answer.arrayBuffer())));
}

async function* pieces() {
  yield* [body.subarray(0, 1), body.subarray(1, 70000), body.subarray(70000)];
}

async function withFetch() {
  for (const path of ['/download', '/chunked', '/zipped', '/redirect', '/download', '/zipped']) {
    await show(path, await fetch(site + path));
  }
  await show('unfollowed', await fetch(`${site}/redirect`, { redirect: 'manual' }));
  for (const request of [{ method: 'PUT', body }, { method: 'POST', body: pieces(), duplex: 'half' }]) {
    console.log(await (await fetch(`${site}/upload`, request)).text());
  }
  const events = await fetch(`${site}/events?who=node`);
  for await (const part of events.body.pipeThrough(new TextDecoderStream())) {
    console.log(JSON.stringify(part));
    await (await fetch(`${site}/seen?who=node&number=${part.slice(6).trim()}`)).text();
  }
}

// A body that waits for 100 (Continue), on a connection that is kept.
function withHttp(agent) {
  return new Promise((resolve, reject) => {
    const headers = { Expect: '100-continue', 'Content-Length': body.length };
    const request = http.request(`${site}/upload`, { method: 'PUT', agent, headers });
    request.on('error', reject);
    request.on('continue', () => { console.log('continue'); request.end(body); });
    request.on('response', async (answer) => {
      const parts = [];
      for await (const part of answer) parts.push(part);
      resolve(console.log(answer.statusCode, Buffer.concat(parts).toString()));
    });
    request.flushHeaders();
  });
}

function withWebSocket() {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${site.replace('http', 'ws')}/echo`);
    const sizes = [0, 125, 126, 65535, 65536, body.length];
    socket.on('error', reject);
    socket.on('open', () => socket.send('hello'));
    socket.on('message', (data, isBinary) => {
      console.log(isBinary ? digest(data) : data.toString());
      socket.send(sizes.length ? body.subarray(0, sizes.shift()) : 'goodbye');
    });
    socket.on('close', (code, reason) => resolve(console.log('closed', code, reason.toString())));
  });
}

(async () => {
  await withFetch();
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let turn = 0; turn < 3; turn++) await withHttp(agent);
  agent.destroy();
  await withWebSocket();
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
