// The ws package (Debian: node-ws): /echo sends each message back, /cast to all.

'use strict';
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({ port: Number(process.env.PORT), host: '127.0.0.1',
  perMessageDeflate: false, backlog: 4096 });

server.on('connection', (socket, request) => {
  const casts = request.url === '/cast';
  socket.on('error', () => socket.terminate());
  socket.on('message', (data, isBinary) => {
    if (!casts) return socket.send(data, { binary: isBinary });
    for (const other of server.clients) other.send(data, { binary: isBinary });
  });
});
