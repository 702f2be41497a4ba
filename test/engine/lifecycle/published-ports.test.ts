import { expect, test } from 'vitest';
import { planPorts } from '../../../src/engine/lifecycle/published-ports.ts';

test('a port that was ours to choose is none that is promised to a VM that does not run', async () => {
  const promised = new Set<number>();
  const isOwned = ({ hostPort }: { hostPort: number }): boolean => {
    if (promised.size < 3) promised.add(hostPort);
    return promised.has(hostPort);
  };
  const [port] = await planPorts([{ protocol: 'tcp', bind: '127.0.0.1', guestPort: 80 }], { isOwned });
  expect(promised.size).toBe(3);
  expect(promised).not.toContain(port!.hostPort);
});
