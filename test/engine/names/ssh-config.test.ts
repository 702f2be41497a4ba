import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { sshConfigText, type SshConfigInput } from '../../../src/engine/names/ssh-config.ts';

let directory: string;
beforeEach(() => void (directory = mkdtempSync(join(tmpdir(), 'banger-ssh-'))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const input: SshConfigInput = {
  program: { argv: ['/usr/bin/banger'], env: { BANGER_HOME: undefined, XDG_STATE_HOME: '/s' } },
  identityFile: '/s/id',
  knownHosts: '/s/known_hosts',
  vms: ['web', 'db-1'],
};

/** What ssh itself makes of it, included into a user's own file. */
function resolved(host: string, change: Partial<SshConfigInput> = {}): Record<string, string> {
  writeFileSync(join(directory, 'vms'), sshConfigText({ ...input, ...change }));
  const user = 'Host *.vm\n  User other\n  ControlMaster auto\n  ForwardAgent yes\nHost *\n  Port 2222\n';
  writeFileSync(join(directory, 'config'), `Include "${directory}/vms"\n${user}`);
  const told = execFileSync('ssh', ['-F', join(directory, 'config'), '-G', host], { encoding: 'utf8' });
  return Object.fromEntries(
    told.split('\n').map((line) => line.split(/ (.*)/).slice(0, 2) as [string, string]),
  );
}

test('ssh reaches a VM through banger, strictly, and whatever the user has set for other hosts', () => {
  expect(resolved('web.vm')).toMatchObject({
    user: 'root',
    proxycommand: "env -u BANGER_HOME XDG_STATE_HOME=/s /usr/bin/banger ssh-proxy '%h'",
    identityfile: '/s/id',
    identitiesonly: 'yes',
    userknownhostsfile: '/s/known_hosts',
    stricthostkeychecking: 'true',
    controlmaster: 'false',
    forwardagent: 'no',
  });
  expect(resolved('made-later.vm')).toMatchObject({ user: 'root', identityfile: '/s/id' });
});

test('other hosts are as they were, and what follows the Include holds for all', () => {
  const other = resolved('example.org');
  expect(other).toMatchObject({ port: '2222', stricthostkeychecking: 'ask' });
  expect(other['proxycommand']).toBeUndefined();
});

test('paths with spaces, quotes for the shell and per cent signs arrive as they are', () => {
  const odd = "/my vms/100%h/it's";
  const { identityfile, proxycommand } = resolved('web.vm', {
    identityFile: odd,
    program: { argv: [`${odd}/banger`], env: { BANGER_HOME: odd } },
  });
  expect(identityfile).toBe("/my vms/100%%h/it's");
  const command = proxycommand!
    .replaceAll('%%', '%')
    .replace("'%h'", 'web.vm')
    .replace(/^env /, 'printf "%s|" ');
  expect(execFileSync('sh', ['-c', command], { encoding: 'utf8' })).toBe(
    `BANGER_HOME=${odd}|${odd}/banger|ssh-proxy|web.vm|`,
  );
});

test.each(['/a"b', '/a\nb', '/a\\b', '/a${HOME}'])(
  '%j is refused, since ssh would read something else',
  (path) => {
    expect(() => sshConfigText({ ...input, identityFile: path })).toThrow('OpenSSH cannot be told of');
  },
);
