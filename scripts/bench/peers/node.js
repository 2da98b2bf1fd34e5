// Node's http, alone or as the only worker of a cluster (NODE_CLUSTER=1), and net, which
// sends lines back (NODE_LINE=1). The port is in PORT.

'use strict';
const cluster = require('node:cluster');
const http = require('node:http');
const net = require('node:net');

const json = 'application/json';
const text = 'text/plain; charset=utf-8';

function send(res, type, body) {
  res.setHeader('Content-Type', type);
  res.setHeader('Content-Length', Buffer.byteLength(body));
  res.end(body);
}

function sendItem(req, res, id, query) {
  const args = new URLSearchParams(query);
  res.setHeader('X-Item', id);
  res.setHeader('X-Page', args.get('page'));
  res.setHeader('X-Request-Id', req.headers['x-request-id']);
  res.setHeader('Content-Language', req.headers['accept-language']);
  send(res, text, `item ${id}, ${args.get('q')}, for ${req.headers['user-agent']}\n`);
}

function sendBack(req, res) {
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => send(res, text, Buffer.concat(chunks)));
}

function answer(req, res) {
  const [path, query] = req.url.split('?');
  if (path === '/hello') return send(res, text, 'Hello, world!\n');
  if (path === '/json') {
    return send(res, json, JSON.stringify({ id: 42, name: 'Ada Lovelace',
      mail: 'ada@example.org', active: true }));
  }
  if (path === '/echo') return sendBack(req, res);
  const item = /^\/items\/([^/]+)$/.exec(path);
  if (item) return sendItem(req, res, item[1], query);
  res.statusCode = 404;
  res.end();
}

function serve() {
  const address = { port: process.env.PORT, host: '127.0.0.1', backlog: 4096 };
  if (process.env.NODE_LINE) {
    return net.createServer((socket) => {
      socket.setNoDelay(true);
      socket.on('data', (chunk) => socket.write(chunk));
      socket.on('error', () => socket.destroy());
    }).listen(address);
  }
  const server = http.createServer(answer);
  server.keepAliveTimeout = 3600 * 1000;
  server.listen(address);
}

if (process.env.NODE_CLUSTER && cluster.isPrimary) {
  for (let i = 0; i < Number(process.env.NODE_CLUSTER); i++) cluster.fork();
  process.on('SIGTERM', () => process.exit());
} else {
  serve();
}
