// What node is used for: an HTTP server with its client, threads, files, hashes, compression, WebAssembly, timers.
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const os = require('os');
const path = require('path');
const zlib = require('zlib');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { promisify } = require('util');

if (!isMainThread) {
  const shared = new Int32Array(workerData.shared);
  for (let i = 0; i < 1000; ++i) Atomics.add(shared, 0, 1);
  let hash = crypto.createHash('sha256');
  for (let i = 0; i < 2000; ++i) hash.update(`${workerData.id}:${i}`);
  parentPort.postMessage({ id: workerData.id, digest: hash.digest('hex') });
} else {
  main().catch((error) => { console.error(error); process.exit(1); });
}

function agree(name, value) { console.log(name, value); }

async function server() {
  const body = crypto.createHash('sha512').update('body').digest('hex').repeat(200);
  const listener = http.createServer((request, response) => {
    let size = 0;
    request.on('data', (chunk) => { size += chunk.length; });
    request.on('end', () => {
      response.setHeader('content-type', 'text/plain');
      response.end(`${request.method} ${request.url} ${size} ${body}`);
    });
  });
  await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address();
  const agent = new http.Agent({ keepAlive: true, maxSockets: 8 });
  const get = (i) => new Promise((resolve, reject) => {
    const request = http.request({ port, agent, host: '127.0.0.1', path: `/${i}`, method: i % 2 ? 'POST' : 'GET' },
      (response) => {
        const parts = [];
        response.on('data', (part) => parts.push(part));
        response.on('end', () => resolve(Buffer.concat(parts).toString()));
      });
    request.on('error', reject);
    request.end(i % 2 ? 'x'.repeat(i * 100) : undefined);
  });
  const answers = await Promise.all([...Array(300).keys()].map(get));
  agree('http', crypto.createHash('md5').update(answers.join('\n')).digest('hex'));
  agent.destroy();
  await new Promise((resolve) => listener.close(resolve));
}

async function threads() {
  const shared = new SharedArrayBuffer(4);
  const digests = await Promise.all([0, 1, 2, 3].map((id) => new Promise((resolve, reject) => {
    const worker = new Worker(__filename, { workerData: { id, shared } });
    worker.on('message', (message) => resolve(message.digest));
    worker.on('error', reject);
  })));
  agree('worker_threads', [new Int32Array(shared)[0], ...digests].join(' '));
}

async function files() {
  const folder = fs.mkdtempSync(path.join(process.cwd(), 'node-'));
  const names = [...Array(50).keys()].map((i) => path.join(folder, `file-${i}`));
  await Promise.all(names.map((name, i) => fs.promises.writeFile(name, 'line\n'.repeat(i * 100))));
  const sizes = await Promise.all(names.map(async (name) => (await fs.promises.stat(name)).size));
  await fs.promises.appendFile(names[0], 'more');
  await fs.promises.rename(names[0], `${names[0]}-renamed`);
  await fs.promises.symlink('file-1', path.join(folder, 'link'));
  await new Promise((resolve, reject) => fs.createReadStream(names[49])
    .pipe(fs.createWriteStream(path.join(folder, 'copy'))).on('finish', resolve).on('error', reject));
  fs.copyFileSync(names[10], path.join(folder, 'copied'));
  let error = '';
  try { fs.readFileSync('/no/such/file'); } catch (e) { error = e.code; }
  agree('fs', [sizes.reduce((a, b) => a + b), fs.readdirSync(folder).length,
    fs.readlinkSync(path.join(folder, 'link')), fs.statSync(path.join(folder, 'copy')).size,
    fs.statSync(path.join(folder, 'copied')).size, error].join(' '));
  fs.rmSync(folder, { recursive: true });
}

async function hashes() {
  const key = await promisify(crypto.scrypt)('password', 'salt', 32);
  const derived = await promisify(crypto.pbkdf2)('password', 'salt', 20000, 32, 'sha256');
  const cipher = crypto.createCipheriv('aes-256-gcm', key, Buffer.alloc(12));
  const sealed = Buffer.concat([cipher.update('secret'.repeat(1000)), cipher.final()]);
  const { publicKey, privateKey } = await promisify(crypto.generateKeyPair)('ec', { namedCurve: 'P-256' });
  const signature = crypto.sign('sha256', sealed, privateKey);
  agree('crypto', [key.toString('hex'), derived.toString('hex'), cipher.getAuthTag().toString('hex'),
    crypto.verify('sha256', sealed, publicKey, signature), crypto.randomBytes(16).length].join(' '));
}

async function compression() {
  const text = Buffer.from([...Array(20000).keys()].map((i) => `line ${i * i}`).join('\n'));
  const results = [];
  for (const [pack, unpack] of [['gzip', 'gunzip'], ['deflate', 'inflate'], ['brotliCompress', 'brotliDecompress']]) {
    const packed = await promisify(zlib[pack])(text);
    const unpacked = await promisify(zlib[unpack])(packed);
    results.push(packed.length, unpacked.equals(text));
  }
  agree('zlib', results.join(' '));
}

async function wasm() {
  // (func (export "fib") (param i32) (result i32) ...): fib(n) by recursion.
  const bytes = Buffer.from('0061736d0100000001060160017f017f030201000707010366696200000a1e011c00200041024804402000' +
    '0f0b200041016b1000200041026b10006a0b', 'hex');
  const { instance } = await WebAssembly.instantiate(bytes);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 100 });
  memory.grow(20);
  agree('wasm', [instance.exports.fib(27), memory.buffer.byteLength].join(' '));
}

async function timers() {
  const order = [];
  const start = process.hrtime.bigint();
  setImmediate(() => order.push('immediate'));
  process.nextTick(() => order.push('tick'));
  queueMicrotask(() => order.push('microtask'));
  let ticks = 0;
  await new Promise((resolve) => {
    const interval = setInterval(() => { if (++ticks === 10) { clearInterval(interval); resolve(); } }, 2);
  });
  await Promise.all([30, 10, 20].map((ms) => new Promise((resolve) => setTimeout(() => { order.push(ms); resolve(); }, ms))));
  agree('timers', [ticks, process.hrtime.bigint() - start >= 50_000_000n, ...order].join(' '));
}

function jit() {
  const size = 200;
  const a = new Float64Array(size * size).map((_, i) => i % 7), b = a.map((x) => x + 1), c = new Float64Array(size * size);
  for (let i = 0; i < size; ++i) for (let j = 0; j < size; ++j) {
    let sum = 0;
    for (let k = 0; k < size; ++k) sum += a[i * size + k] * b[k * size + j];
    c[i * size + j] = sum;
  }
  let garbage = [];
  for (let i = 0; i < 300000; ++i) { garbage.push({ i, text: `${i}` }); if (garbage.length > 50000) garbage = garbage.slice(25000); }
  agree('jit', [c.reduce((x, y) => x + y), garbage.length].join(' '));
}

async function main() {
  process.on('SIGUSR2', () => agree('signal', 'SIGUSR2'));
  process.kill(process.pid, 'SIGUSR2');
  await server();
  await threads();
  await files();
  await hashes();
  await compression();
  await wasm();
  await timers();
  jit();
  assert.strictEqual(os.platform(), 'linux');
  agree('cpus', os.cpus().length);
  agree('interfaces', Object.keys(os.networkInterfaces()).sort().join(' '));
}
