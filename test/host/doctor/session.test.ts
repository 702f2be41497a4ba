import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkSession } from '../../../src/host/doctor/session.ts';

let lingerDirectory: string;
beforeEach(() => {
  lingerDirectory = mkdtempSync(join(tmpdir(), 'banger-linger-'));
});
afterEach(() => rmSync(lingerDirectory, { recursive: true }));

const terminal =
  '0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope\n';
const check = (cgroup: string) => checkSession({ uid: 1000, userName: 'me', cgroup, lingerDirectory });

test('VMs that are started from a terminal of a desktop end with the login, unless its user lingers', () => {
  expect(check(terminal)).toMatchObject({
    status: 'warn',
    evidence: 'VMs that are started here end when you log out, as by a power cut',
    fix: 'Let them go on: loginctl enable-linger',
  });
  writeFileSync(join(lingerDirectory, 'me'), '');
  expect(check(terminal).status).toBe('pass');
});

test.each([
  ['a login by ssh', '0::/user.slice/user-1000.slice/session-3.scope\n'],
  ['a service', '1:name=systemd:/system.slice/cron.service\n0::/system.slice/cron.service\n'],
  ['a terminal of somebody else', terminal.replaceAll('1000', '1001')],
])('nothing of a manager ends what is started from %s', (_, cgroup) => {
  expect(check(cgroup).status).toBe('pass');
});

test('a host without control groups has nothing to be asked', () => {
  expect(check('').status).toBe('skip');
});
