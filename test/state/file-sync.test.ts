import { expect, test } from 'vitest';
import { expandHome, parseFileSync, splitFileSync } from '../../src/state/file-sync.ts';
import { parseConfig } from '../../src/state/config.ts';

test.each([
  ['~/.npmrc', '~/.npmrc', '/root/.npmrc'],
  ['~/.config/nvim/', '~/.config/nvim', '/root/.config/nvim'],
  ['/home/me/.ssh/config', '/home/me/.ssh/config', '/root/.ssh/config'],
  ['~/dotfiles:~', '~/dotfiles', '/root'],
  ['/etc/hosts:/etc/hosts.host', '/etc/hosts', '/etc/hosts.host'],
  ['~/a:b/c:~/d', '~/a:b/c', '/root/d'],
])('%s is %s, and goes to %s', (text, host, guest) => {
  expect(parseFileSync(splitFileSync(text), '/home/me')).toEqual({ host, guest, optional: false });
});

test.each([
  ['/etc/hosts', 'is not in your home directory'],
  ['~bob/x', 'in the home of another user'],
  ['x/y', 'is not an absolute path'],
  ['~/../x', 'has ".." in it'],
  ['~', 'is too much to be sent'],
  ['/', 'is too much to be sent'],
  ['~/x:/', 'is no place for files in a VM'],
  ['~/x:/proc/1', 'is no place for files in a VM'],
  ['~/x:~/../etc', 'has ".." in it'],
  ['~/x\n', 'has a control character in it'],
])('%j is refused', (text, message) => {
  expect(() => parseFileSync(splitFileSync(text), '/home/me')).toThrow(message);
});

test('a home with letters that mean something to a replacement is taken as it is', () => {
  expect(expandHome('~/x', '/home/$&')).toBe('/home/$&/x');
  expect(expandHome('/a/~/x', '/h')).toBe('/a/~/x');
});

test('the configuration says what is wrong with which entry', () => {
  const text = '[[file_sync]]\nhost = "~/.npmrc"\noptional = true\n[[file_sync]]\nhost = "/etc/x"\n';
  expect(() => parseConfig(text, '/c.toml')).toThrow(
    '"/c.toml": "file_sync.1": "/etc/x" is not in your home directory, so that its place in the VM is not known. Say where it goes, such as /etc/app.conf or ~/.config/app',
  );
  expect(() => parseConfig('[[file_sync]]\nhots = "~/x"\n', '/c.toml')).toThrow(
    /unknown key "file_sync.0.hots"/,
  );
  expect(parseConfig(text.replace('"/etc/x"', '"~/x"\nguest = "/etc/x"'), 'c').fileSync).toEqual([
    { host: '~/.npmrc', guest: '/root/.npmrc', optional: true },
    { host: '~/x', guest: '/etc/x', optional: false },
  ]);
});
