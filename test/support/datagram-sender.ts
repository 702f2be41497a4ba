// datagram-sender.ts PORT BYTES PIECE: sends so many to datagram-server.pl by UDP, in pieces so large and again where
// they are lost, and prints their SHA-256.
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';

const [port = 0, bytes = 0, pieceBytes = 0] = process.argv.slice(2).map(Number);
/** As much as a socket of a guest's takes in without being read. */
const window = Math.floor(180_000 / Math.max(pieceBytes, 4_000));
const patienceMs = 500;
const pieces = Math.ceil(bytes / pieceBytes);
const hash = createHash('sha256');

/** The last one, empty, says that it was. */
function piece(number: number): Buffer {
  const size = number === pieces ? 0 : Math.min(pieceBytes, bytes - number * pieceBytes);
  const datagram = Buffer.alloc(4 + size, number % 251);
  datagram.writeUInt32BE(number);
  if (size >= 4) datagram.writeUInt32BE((number * 2654435761) % 2 ** 32, 4);
  return datagram;
}

const socket = createSocket('udp4');
let [acknowledged, sent, hashed] = [0, 0, 0];
let timer: NodeJS.Timeout | undefined;

function next(): void {
  for (; sent <= pieces && sent < acknowledged + window; sent++) {
    const datagram = piece(sent);
    if (sent === hashed) {
      hash.update(datagram.subarray(4));
      hashed++;
    }
    socket.send(datagram);
  }
  clearTimeout(timer);
  timer = setTimeout(again, patienceMs);
}

function again(): void {
  sent = acknowledged;
  next();
}

socket.on('message', (message) => {
  const number = message.readUInt32BE();
  if (number <= acknowledged) return;
  acknowledged = number;
  if (sent < acknowledged) sent = acknowledged;
  if (acknowledged <= pieces) return next();
  clearTimeout(timer);
  socket.close();
  process.stdout.write(`${hash.digest('hex')}\n`);
});
// Nobody listens yet, or any more.
socket.on('error', () => undefined);
socket.connect(port, '127.0.0.1', next);
