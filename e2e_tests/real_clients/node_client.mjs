// A conversation with the echo server through the client library `ws`.
//
//     node node_client.mjs ECHO_SERVER
//
// Starts the server, plays every scenario against it, ends it with SIGTERM. One line for each scenario, then
// "N passed, M failed". With WSLOOP_DEFLATE=shared or dedicated both sides compress.

import { spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { isUtf8 } from 'node:buffer';
import WebSocket from 'ws';

const DEADLINE = 30_000; // milliseconds, for one scenario
const MODE = process.env.WSLOOP_DEFLATE ?? 'off'; // of the server
const LIMIT = 16 << 20; // bytes, the largest message that the server takes
const SIZES = [0, 1, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20, LIMIT];

const scenarios = [];
const scenario = (name, play) => scenarios.push({ name, play });

async function main(binary) {
  const server = await startServer(binary);
  let failed = 0;
  for (const { name, play } of scenarios) {
    const begin = performance.now();
    try {
      await within(DEADLINE, play(server));
      console.log(`ok node: ${name} (${((performance.now() - begin) / 1000).toFixed(2)} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED node: ${name}: ${error.message}`);
    }
    for (const client of clients.splice(0)) client.ws.terminate();
  }
  server.process.kill('SIGKILL');
  console.log(`${scenarios.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

async function startServer(binary) {
  const child = spawn(binary, ['--listen', '127.0.0.1:0', '--deflate', MODE], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = new Promise((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal)));
  const started = new Promise((resolve, reject) => {
    createInterface(child.stdout).on('line', resolve);
    child.on('error', reject);
    child.on('exit', () => reject(new Error('the server exited at once')));
  });
  try {
    const line = await within(10_000, started);
    check(line.startsWith('listening on ws://'), `the server's first line is ${line}`);
    return { process: child, exited, url: line.slice('listening on '.length) };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}

// What arrives is kept in order until it is asked for, so that nothing depends on when the events come.
class Client {
  messages = new Queue();
  pongs = new Queue();

  constructor(url) {
    this.ws = new WebSocket(url, { perMessageDeflate: MODE !== 'off' });
    this.ws.on('message', (data, isBinary) => this.messages.push({ data, isBinary }));
    this.ws.on('pong', (data) => this.pongs.push(data));
    this.closed = new Promise((resolve) => {
      this.ws.on('close', (code, reason) => {
        const error = new Error(`closed with ${code} ${reason}`);
        this.messages.fail(error);
        this.pongs.fail(error);
        resolve({ code, reason: reason.toString() });
      });
    });
    // A write to a server that has closed already is no failure: the close code decides.
    this.ws.on('error', () => {});
  }

  send(message, fin = true) {
    return new Promise((resolve, reject) => {
      this.ws.send(message.data, { binary: message.isBinary, fin }, (error) => (error ? reject(error) : resolve()));
    });
  }
}

class Queue {
  #items = [];
  #waiting = [];
  #error = null;

  push(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting.resolve(item);
    else this.#items.push(item);
  }

  fail(error) {
    this.#error = error;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
  }

  next() {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    if (this.#error) return Promise.reject(this.#error);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }
}

const clients = [];

async function connect(server) {
  const client = new Client(server.url);
  clients.push(client);
  await once(client.ws, 'open');
  return client;
}

// --- Scenarios -----------------------------------------------------------------------------------------------------

scenario('handshake without subprotocol, and with the extension that was set', async (server) => {
  const { ws } = await connect(server);
  check((ws.extensions !== '') === (MODE !== 'off'), `extensions: ${ws.extensions}`);
  check(ws.protocol === '', `a subprotocol was accepted: ${ws.protocol}`);
});

for (const [kind, make] of [
  ['binary', binary],
  ['ASCII text', asciiText],
  ['multi-byte text', unicodeText],
]) {
  scenario(`${kind} messages of every size`, async (server) => {
    const client = await connect(server);
    for (const size of SIZES) await echo(client, make(size));
  });
}

scenario('fragmented messages of every size, text cut inside its characters, empty fragments', async (server) => {
  const client = await connect(server);
  for (const size of SIZES) {
    for (const message of [binary(size), unicodeText(size)]) {
      await sendFragments(client, message);
      await expectEcho(client, message);
    }
  }
});

scenario('pings between messages, each pong with its payload', async (server) => {
  const client = await connect(server);
  for (const size of [0, 1, 64, 124, 125]) {
    await ping(client, randomBytes(size));
    await echo(client, binary(size));
  }
});

scenario('pings between fragments, answered before the message is complete', async (server) => {
  const client = await connect(server);
  for (const message of [binary(65537), unicodeText(65537), binary(0), asciiText(0)]) {
    await sendFragments(client, message, () => ping(client, randomBytes(randomInt(1, 126))));
    await expectEcho(client, message);
  }
});

scenario('2000 messages in flight, in order, with pings among them', async (server) => {
  const messages = Array.from({ length: 2000 }, () => anyMessage(choose(SIZES.slice(0, -2))));
  await converse(await connect(server), messages);
});

scenario('large messages in flight', async (server) => {
  await converse(await connect(server), [LIMIT, 1 << 20, 0, LIMIT, 1, 1 << 20, LIMIT].map(anyMessage));
});

scenario('32 connections side by side', async (server) => {
  const one = async () => {
    const messages = Array.from({ length: 50 }, () => anyMessage(choose(SIZES.slice(0, -2))));
    await converse(await connect(server), messages);
  };
  await Promise.all(Array.from({ length: 32 }, one));
});

scenario('close by the client, code and reason echoed', async (server) => {
  const longest = '€'.repeat(41); // 123 bytes
  for (const code of [1000, 1001, 3000, 4999]) {
    for (const reason of ['', 'a reason', longest]) {
      const client = await connect(server);
      await echo(client, asciiText(16));
      client.ws.close(code, reason);
      await expectClose(client, code, reason);
    }
  }
});

scenario('close by the client without a code', async (server) => {
  const client = await connect(server);
  client.ws.close();
  await expectClose(client, 1005, '');
});

scenario('message above the limit, in one frame: 1009', async (server) => {
  const neighbour = await connect(server);
  for (const message of [binary(LIMIT + 1), asciiText(LIMIT + 1)]) {
    const client = await connect(server);
    await sendRefused(client, [message], 1009);
  }
  await echo(neighbour, asciiText(16));
});

scenario('message above the limit, in fragments: 1009', async (server) => {
  const client = await connect(server);
  await sendRefused(client, [...Array.from({ length: 16 }, () => binary(1 << 20)), binary(1)], 1009);
});

scenario('invalid UTF-8: 1007', async (server) => {
  const text = (...bytes) => ({ data: Buffer.from(bytes), isBinary: false });
  const large = text(...asciiText(65537).data, 0x80);
  for (const fragments of [
    [text(0xff)],
    [text(0x20, 0xe2, 0x82)], // truncated
    [text(0x20, 0xc0, 0xaf)], // overlong
    [text(0xed, 0xa0, 0x80)], // a surrogate
    [text(0xf4, 0x90, 0x80, 0x80)], // above U+10FFFF
    [large],
    [text(0x20, 0xe2), text(0x28, 0x20)],
    [text(0x20, 0xe2), text(0x82)],
  ]) {
    check(!isUtf8(Buffer.concat(fragments.map(({ data }) => data))), 'the scenario itself is wrong');
    await sendRefused(await connect(server), fragments, 1007);
  }
});

scenario('SIGTERM: every connection sees 1001, the server exits with 0', async (server) => {
  const open = [];
  for (let i = 0; i < 8; i += 1) open.push(await connect(server));
  for (const client of open) await echo(client, asciiText(16));
  // One of them in the midst of a message; the pong says that the server has read the fragment.
  await open[0].send(binary(10), false);
  await ping(open[0], Buffer.from('read'));
  server.process.kill('SIGTERM');
  for (const client of open) await expectClose(client, 1001);
  const status = await server.exited;
  check(status === 0, `the server exited with ${status}`);
});

// --- Steps ---------------------------------------------------------------------------------------------------------

async function echo(client, message) {
  await client.send(message);
  await expectEcho(client, message);
}

// Sends without waiting for the echoes, and reads them meanwhile.
async function converse(client, messages) {
  const sendAll = async () => {
    for (const [number, message] of messages.entries()) {
      if (number % 3 === 2) await sendFragments(client, message);
      else await client.send(message);
      if (number % 100 === 99) await ping(client, Buffer.from(String(number)));
    }
  };
  const receiveAll = async () => {
    for (const message of messages) await expectEcho(client, message);
  };
  await Promise.all([sendAll(), receiveAll()]);
}

async function sendFragments(client, message, between = () => {}) {
  const fragments = cut(message.data);
  for (const [number, data] of fragments.entries()) {
    await client.send({ data, isBinary: message.isBinary }, number === fragments.length - 1);
    if (number < fragments.length - 1) await between();
  }
}

async function ping(client, payload) {
  client.ws.ping(payload);
  const pong = await client.pongs.next();
  check(pong.equals(payload), `a ping with ${payload.toString('hex')} was answered by ${pong.toString('hex')}`);
}

// The server may close while the library is still sending.
async function sendRefused(client, fragments, code) {
  const last = fragments.length - 1;
  const sent = fragments.map((fragment, number) => client.send(fragment, number === last));
  await Promise.allSettled(sent);
  await expectClose(client, code);
}

async function expectEcho(client, sent) {
  const received = await client.messages.next();
  check(received.isBinary === sent.isBinary, `a message came back as ${received.isBinary ? 'binary' : 'text'}`);
  if (received.data.equals(sent.data)) return;
  const at = received.data.findIndex((byte, index) => byte !== sent.data[index]);
  throw new Error(
    `${sent.data.length} bytes came back as ${received.data.length}, first different at ${at < 0 ? 'the end' : at}`,
  );
}

// Without a reason: any.
async function expectClose(client, code, reason) {
  const closed = await client.closed;
  check(closed.code === code, `closed with ${closed.code} ${closed.reason}, not with ${code}`);
  check(reason === undefined || closed.reason === reason, `closed with the reason ${closed.reason}, not ${reason}`);
}

function check(condition, message) {
  if (!condition) throw new Error(message);
}

async function within(milliseconds, promise) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

// --- Contents ------------------------------------------------------------------------------------------------------

function choose(choices) {
  return choices[randomInt(choices.length)];
}

function anyMessage(size) {
  return choose([binary, asciiText, unicodeText])(size);
}

function binary(size) {
  return { data: randomBytes(size), isBinary: true };
}

function asciiText(size) {
  return { data: Buffer.from(randomBytes(size).toString('base64').slice(0, size)), isBinary: false };
}

// Characters of one to four bytes that are `size` bytes of UTF-8 together.
function unicodeText(size) {
  const latin = randomBytes(size >> 2).toString('latin1');
  const rest = randomBytes(size & ~1).toString('utf16le');
  const whole = Buffer.from(`é€😀${latin}${rest}`);
  let end = Math.min(size, whole.length);
  while (end > 0 && end < whole.length && (whole[end] & 0xc0) === 0x80) end -= 1;
  return { data: Buffer.concat([whole.subarray(0, end)], size).fill('x', end), isBinary: false };
}

// Fragments of about as many sizes as there are fragments; an empty one at both ends and one further on.
function cut(data) {
  const fragments = [Buffer.alloc(0)];
  for (let at = 0, size = 1; at < data.length; at += size, size = size * 3 + 1) {
    fragments.push(data.subarray(at, at + size));
  }
  fragments.splice(fragments.length >> 1, 0, Buffer.alloc(0));
  fragments.push(Buffer.alloc(0));
  return fragments;
}

if (process.argv.length !== 3) {
  console.error('usage: node node_client.mjs ECHO_SERVER');
  process.exit(2);
}
process.exit(await main(process.argv[2]));
