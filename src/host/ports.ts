import { createSocket, type Socket } from 'node:dgram';
import { createServer } from 'node:net';
import { BangerError, errnoOf } from '../errors.ts';

/** An address, a protocol and a port of this host. */
export interface HostPort {
  readonly protocol: 'tcp' | 'udp';
  readonly bind: string;
  readonly port: number;
}

/** A port that nobody uses now. Somebody may take it before it is used: callers try again. */
export async function findFreePort(
  place: Omit<HostPort, 'port'> = { protocol: 'tcp', bind: '127.0.0.1' },
): Promise<number> {
  return tryPort({ ...place, port: 0 });
}

/**
 * Throws unless a port can be listened on now: `busy` when it is taken, `invalid_argument` when it never can be
 * (an address that is not this host's), `host_unsupported` when it takes rights we do not have.
 */
export async function checkPort(place: HostPort): Promise<void> {
  try {
    await tryPort(place);
  } catch (cause) {
    throw portError(place, cause);
  }
}

/** Begins to hear the datagrams of a UDP port. Throws as `checkPort`. */
export async function openUdpPort(place: Omit<HostPort, 'protocol'>): Promise<Socket> {
  try {
    return await bindUdp(place);
  } catch (cause) {
    throw portError({ protocol: 'udp', ...place }, cause);
  }
}

async function bindUdp({ bind, port }: Omit<HostPort, 'protocol'>): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = createSocket('udp4');
  socket.once('error', reject);
  socket.bind({ port, address: bind, exclusive: true }, resolve);
  try {
    await promise;
  } catch (error) {
    socket.close();
    throw error;
  }
  socket.off('error', reject);
  return socket;
}

async function tryPort({ protocol, bind, port }: HostPort): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  if (protocol === 'udp') {
    const socket = await bindUdp({ bind, port });
    const found = socket.address().port;
    socket.close();
    return found;
  }
  const server = createServer();
  server.once('error', reject);
  server.listen({ port, host: bind, exclusive: true }, resolve);
  await promise;
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  if (address === null || typeof address === 'string') throw new Error('No port was given');
  return address.port;
}

function portError(place: HostPort, cause: unknown): unknown {
  const name = `${place.bind}:${place.port}/${place.protocol}`;
  switch (errnoOf(cause)) {
    case 'EADDRINUSE':
      return new BangerError('busy', `Port ${name} is taken by another program`, {
        hint: `See which: ss -${place.protocol === 'udp' ? 'u' : 't'}lpn 'sport = :${place.port}'; or publish on another port`,
        cause,
      });
    case 'EADDRNOTAVAIL':
      return new BangerError('invalid_argument', `"${place.bind}" is not an address of this host`, {
        hint: 'List its addresses with: ip -brief address',
        cause,
      });
    case 'EACCES':
      return new BangerError('host_unsupported', `Port ${name} may only be listened on by root`, {
        hint: `Choose a port from 1024 up, such as ${place.port + 8000}`,
        cause,
      });
    default:
      return cause;
  }
}
