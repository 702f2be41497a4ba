import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BangerError } from '../../src/errors.ts';
import type { Exec } from '../../src/host/exec.ts';
import { hostStatus, setupHost, teardownHost } from '../../src/host/setup/setup-host.ts';
import { canMakeLab, labReason } from '../support/network-lab.ts';
import {
  openSetupLab,
  setupUid as uid,
  setupUser as user,
  type SetupExtra,
  type SetupLab,
} from '../support/setup-lab.ts';

describe.skipIf(!canMakeLab)(`a host whose programs find VMs by name after it was set up${labReason}`, () => {
  let host: SetupLab;
  let before: string;

  beforeEach(() => {
    host = openSetupLab();
    before = host.state();
  });
  afterEach(() => host[Symbol.dispose]());

  const state = () => host.state();
  const input = () => host.input();
  const answeredBy = (resolver: string): void => {
    host.answeredBy(resolver);
    before = state();
  };
  const setup = (extra: SetupExtra = {}) => host.setup(extra);

  test('has systemd-resolved ask for names of VMs, on every link and again at boot, and nobody afterwards', async () => {
    answeredBy('systemd-resolved');
    const planned = await setup({ shared: ['lab'], dryRun: true });
    expect(host.resolved.size).toBe(0);
    const done = await setup({ shared: ['lab'] });
    expect(done.names).toEqual({ resolver: 'systemd-resolved' });
    const links = [...host.lab.run(['ip', '-br', 'link']).matchAll(/^bgb\S+/gm)].map(([name]) => name);
    expect([...host.resolved.keys()].toSorted()).toEqual(links.toSorted());
    expect(host.resolved.get(links[0]!)).toMatchObject({
      dns: '127.0.0.1:10053',
      domain: expect.stringMatching(/^~vm ~\d+\.213\.10\.in-addr\.arpa$/) as string,
      'default-route': 'no',
    });
    const commands = planned.commands.filter((line) => line.startsWith('resolvectl'));
    expect(commands).toHaveLength(6);
    const unit = readFileSync(join(host.root, 'units', `banger-network-${uid}.service`), 'utf8');
    for (const line of commands) expect(unit).toContain(`\nExecStart=-${line}\n`);

    expect(await hostStatus({ user }, input())).toMatchObject({ names: { isTold: true } });
    // It was started anew, and has forgotten.
    host.resolved.clear();
    expect(await hostStatus({ user }, input())).toMatchObject({ names: { isTold: false } });
    await setup();
    expect(await hostStatus({ user }, input())).toMatchObject({ names: { isTold: true } });
    await teardownHost({ user }, input());
    expect(state()).toBe(before);
  });

  test('has dnsmasq ask by a file of its own, which goes with it, also when another answers by then', async () => {
    answeredBy('dnsmasq');
    const path = join(host.root, 'system/etc/dnsmasq.d', `banger-${uid}.conf`);
    const planned = await setup({ dryRun: true });
    expect(planned.files.map((file) => file.path)).toContain(path);
    expect(existsSync(path)).toBe(false);
    await setup();
    expect(readFileSync(path, 'utf8')).toMatch(/^server=\/vm\/127\.0\.0\.1#10053\n/);
    expect(host.asked.at(-1)).toBe('try-restart dnsmasq.service');
    expect(await hostStatus({ user }, input())).toMatchObject({ missingFiles: [], names: { isTold: true } });
    rmSync(path);
    expect(await hostStatus({ user }, input())).toMatchObject({ missingFiles: [path] });
    await setup();
    writeFileSync(join(host.root, 'system/etc/resolv.conf'), 'nameserver 127.0.0.53\n');
    // Setup again tells only who answers now, and says so beforehand.
    const again = await setup({ dryRun: true });
    expect(again.commands.join('\n')).toContain(`rm ${path}\nsystemctl try-restart dnsmasq.service`);
    expect(existsSync(path)).toBe(true);
    await setup();
    expect([existsSync(path), host.asked.at(-1)]).toEqual([false, 'try-restart dnsmasq.service']);
    writeFileSync(path, '');
    expect((await teardownHost({ user }, input())).removed).toContain(path);
    expect(host.asked.at(-1)).toBe('try-restart dnsmasq.service');
    answeredBy('dnsmasq');
    expect(existsSync(path)).toBe(false);
  });

  test('stands when nobody can be told of names, and says so', async () => {
    expect((await setup({ dryRun: true })).names.advice).toContain('server=/vm/127.0.0.1#10053');
    answeredBy('systemd-resolved');
    const broken = {
      ...input(),
      exec: (async (argv, options) => {
        if (argv[0] === 'resolvectl') throw new BangerError('command_failed', 'resolvectl: no answer');
        return host.exec(argv, options);
      }) as Exec,
    };
    const done = await setupHost({ user, taps: 1, shared: [], dryRun: false }, broken);
    expect(done).toMatchObject({ done: true, names: { problem: 'resolvectl: no answer' } });
    expect(await hostStatus({ user }, broken)).toMatchObject({ missingTaps: [], names: { isTold: false } });
    await teardownHost({ user }, broken);
    expect(state()).toBe(before);
  });

  test('for two users has what is of each: ports for names of their own, and one goes without the other', async () => {
    answeredBy('systemd-resolved');
    // Root's habits are no reason for files that the users' engines cannot read.
    const mask = process.umask(0o077);
    const first = await setup({ taps: 1 }).finally(() => process.umask(mask));
    const alone = state();
    const second = await setupHost({ user: 'daemon', taps: 1, shared: [], dryRun: false }, input());
    for (const { path } of [...first.files, ...second.files]) expect(statSync(path).mode & 0o777).toBe(0o644);
    expect(statSync(host.etc).mode & 0o777).toBe(0o755);
    expect(second.networks[0]!.subnet).not.toBe(first.networks[0]!.subnet);
    const servers = () =>
      host.lab
        .run(['ip', '-br', 'link'])
        .match(/^bgb\S+/gm)!
        .map((link) => host.resolved.get(link)!['dns']);
    expect(servers().toSorted()).toEqual(['127.0.0.1:10053', '127.0.0.1:10054']);
    // Done again, it keeps its own.
    await setup({ taps: 1 });
    expect(servers().toSorted()).toEqual(['127.0.0.1:10053', '127.0.0.1:10054']);
    await teardownHost({ user: 'daemon' }, input());
    expect(state()).toBe(alone);
    await teardownHost({ user }, input());
    expect(state()).toBe(before);
  });
});
