// http_server.js PORT: node's http server, with something in its heap. What it answers is in services.py.
const crypto = require('crypto');
const cache = new Map();
const counts = new Map();
require('http').createServer((request, response) => {
  const [, what, key] = request.url.split('/');
  if (what === 'count') counts.set(key, (counts.get(key) || 0) + 1);
  if (what === 'count' || what === 'peek') return response.end(String(counts.get(key) || 0));
  if (what !== 'value') return response.end(`cached ${cache.size}`);
  if (!cache.has(key)) cache.set(key, crypto.createHash('sha256').update(key.repeat(1000)).digest('hex'));
  response.end(cache.get(key));
}).listen(Number(process.argv[2]), '127.0.0.1');
