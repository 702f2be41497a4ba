import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer, type Server } from 'node:net';

/** As many connections at once as Firecracker has (micro-http). */
const maxConnections = 10;
const fullWords = '{ "error": "Too many open connections" }';
const fullAnswer = [
  'HTTP/1.1 503',
  'Server: Firecracker API',
  'Connection: close',
  `Content-Length: ${fullWords.length}`,
  '',
  fullWords,
].join('\r\n');

/** An HTTP server that tells one connection too many so, and closes it. */
export function limitedServer(answer: RequestListener): Server {
  const http = createHttpServer(answer);
  let connections = 0;
  return createServer((connection) => {
    connection.on('error', () => undefined);
    if (connections >= maxConnections) return void connection.end(fullAnswer);
    connections++;
    connection.once('close', () => connections--);
    http.emit('connection', connection);
  });
}
