import { expect, onTestFinished, test } from 'vitest';
import type { EngineContext } from '../../../src/engine/context.ts';
import { vmmDeathText } from '../../../src/engine/lifecycle/vmm-death.ts';
import { countOomKills } from '../../../src/host/oom-kills.ts';
import { fakeEngine } from '../../support/fake-engine.ts';
import { createTestVm } from '../../support/vm-world.ts';

const death = { lastLine: '', signal: undefined, oomKills: 0, memoryMib: 512 };

test('one that was killed is told by its signal', () => {
  expect(vmmDeathText({ ...death, signal: 'SIGKILL' })).toBe('The VMM was killed from outside by SIGKILL');
  expect(vmmDeathText({ ...death, signal: 'SIGSEGV' })).toBe('The VMM ended by itself, by SIGSEGV');
});

test('one that was killed when memory ran out is told so, with the way out', () => {
  const text = vmmDeathText({ ...death, signal: 'SIGKILL', oomKills: 1 });
  expect(text).toContain('was killed by SIGKILL after the host, or its memory limit, had run out of memory');
  expect(text).toContain('(the kernel ended 1 process); the VM has 512 MiB: give it less');
  expect(vmmDeathText({ ...death, oomKills: 2 })).toContain('2 processes');
  // Who is killed so cannot say why: what it said is about something else.
  const chatter = { ...death, signal: 'SIGKILL', lastLine: 'qemu: warning: no' } as const;
  expect(vmmDeathText({ ...chatter, oomKills: 1 })).toBe(text);
  expect(vmmDeathText(chatter)).toBe('The VMM was killed from outside by SIGKILL');
});

test('memory is not blamed for a crash, nor for what the VMM explains itself', () => {
  expect(vmmDeathText({ ...death, signal: 'SIGSEGV', oomKills: 1 })).not.toContain('memory');
  expect(vmmDeathText({ ...death, lastLine: 'qemu: no', oomKills: 1 })).toBe(
    'The VMM ended by itself: qemu: no',
  );
});

test('the kernel counts what it has killed', async () => {
  expect(Number.isInteger(await countOomKills())).toBe(true);
});

test('a VM whose VMM is killed while its guest boots is told as that, and not by its console', async () => {
  const engine = fakeEngine();
  onTestFinished(() => engine.close());
  engine.faults.console = '[    1.0] Booting';
  const { context } = engine;
  const driver: EngineContext['driver'] = (name) => ({
    ...context.driver(name),
    start: async (spec, signal) => {
      const started = await context.driver(name).start(spec, signal);
      spec.onExit?.('SIGKILL');
      return started;
    },
  });
  await expect(createTestVm({ ...engine, context: { ...context, driver } })).rejects.toMatchObject({
    code: 'guest_unreachable',
    message: expect.stringMatching(/^The VMM was killed (?:from outside )?by SIGKILL/) as unknown,
  });
});
