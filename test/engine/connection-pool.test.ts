import { afterEach, expect, test, vi } from 'vitest';
import { ConnectionPool } from '../../src/engine/connection-pool.ts';
import type { SshConnection } from '../../src/host/ssh.ts';

afterEach(() => void vi.useRealTimers());

interface FakeConnection {
  isOpen: boolean;
  users: number;
  settled: PromiseWithResolvers<void>;
}

/** A pool whose connections count who uses them, and settle when told to. */
function fakePool(settleAtOnce = true) {
  const made: FakeConnection[] = [];
  let dialing = 0;
  let mostDialing = 0;
  const failures: Error[] = [];
  const pool = new ConnectionPool(async () => {
    dialing++;
    mostDialing = Math.max(mostDialing, dialing);
    await new Promise(setImmediate);
    dialing--;
    const failure = failures.shift();
    if (failure) throw failure;
    const settled = Promise.withResolvers<void>();
    if (settleAtOnce) settled.resolve();
    const connection: FakeConnection = { isOpen: true, users: 0, settled };
    made.push(connection);
    return Object.assign(connection, {
      close: () => {
        connection.isOpen = false;
      },
      settle: () => settled.promise,
    }) as unknown as SshConnection;
  });
  return { pool, made, failures, mostDialing: () => mostDialing };
}

test('one after the other, programs share one connection', async () => {
  const { pool, made } = fakePool();
  for (let count = 0; count < 5; count++) (await pool.take()).release(true);
  await pool.warm();
  expect(made).toHaveLength(1);
});

test('at the same time, each has its own, and few handshakes run at once', async () => {
  const { pool, made, mostDialing } = fakePool();
  const leases = await Promise.all(Array.from({ length: 20 }, () => pool.take()));
  expect(new Set(leases.map((lease) => lease.connection)).size).toBe(20);
  expect(made.length).toBeLessThanOrEqual(20 + 3);
  expect(mostDialing()).toBeLessThanOrEqual(3);
  for (const lease of leases) lease.release(true);
  await new Promise(setImmediate);
  expect(made.filter((connection) => connection.isOpen)).toHaveLength(4);
});

test('a connection is used again only when it has settled', async () => {
  const { pool, made } = fakePool(false);
  (await pool.take()).release(true);
  let isTaken = false;
  const next = pool.take().then((lease) => {
    isTaken = true;
    return lease;
  });
  await new Promise(setImmediate);
  expect(isTaken).toBe(false);
  made[0]!.settled.resolve();
  expect((await next).connection).toBe(made[0]);
});

test('one whose program may still run is closed', async () => {
  const { pool, made } = fakePool();
  (await pool.take()).release(false);
  expect(made[0]?.isOpen).toBe(false);
});

test('whoever waits for a connection that is lost while it settles gets another', async () => {
  const { pool, made } = fakePool(false);
  (await pool.take()).release(true);
  const next = pool.take();
  made[0]!.settled.reject(new Error('lost'));
  expect((await next).connection).toBe(made[1]);
});

test('a handshake that fails fails whoever waits for it, and the next one tries again', async () => {
  const { pool, failures } = fakePool();
  failures.push(new Error('refused'));
  await expect(pool.take()).rejects.toThrow('refused');
  (await pool.take()).release(true);
});

test('when a guest stands still, all who wait are told at once, however many they are', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] });
  let attempts = 0;
  const pool = new ConnectionPool(() => {
    attempts++;
    return new Promise((_, reject) => setTimeout(() => reject(new Error('no handshake')), 30_000));
  });
  const takers = Array.from({ length: 10 }, () => pool.take().catch((error: unknown) => error));
  await vi.advanceTimersByTimeAsync(30_000);
  expect(await Promise.all(takers)).toEqual(Array(10).fill(new Error('no handshake')));
  expect(attempts).toBe(3);
});

test('one handshake that is refused leaves the others who wait theirs', async () => {
  const { pool, failures } = fakePool();
  failures.push(new Error('refused'));
  const taken = await Promise.allSettled(Array.from({ length: 10 }, () => pool.take()));
  expect(taken.filter(({ status }) => status === 'rejected')).toHaveLength(1);
});

test('a closed pool closes what is out, and gives nothing any more', async () => {
  const { pool, made } = fakePool();
  await pool.take();
  pool.close();
  expect(made[0]?.isOpen).toBe(false);
  await expect(pool.take()).rejects.toMatchObject({ code: 'guest_unreachable' });
});
