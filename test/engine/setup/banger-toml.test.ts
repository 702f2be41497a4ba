import { expect, test } from 'vitest';
import { parseBangerToml } from '../../../src/engine/setup/banger-toml.ts';

const parse = (text: string) =>
  parseBangerToml(text, { file: 'banger.toml', sha256: 'f'.repeat(64), path: '/src/app/banger.toml' });

test('everything that it can say', () => {
  const text = `
image = "node:22"
cpus = 2
memory = "2G"
disk = "20G"
ports = [3000, "8080:80", "0.0.0.0:53:53/udp"]
guest_path = "/srv/app/"
setup = ["npm ci && npm run build", ["make", "deps", "a b"]]
bootstrap = false

[env]
NODE_ENV = "development"
`;
  expect(parse(text)).toEqual({
    file: 'banger.toml',
    sha256: 'f'.repeat(64),
    image: 'node:22',
    cpus: 2,
    memoryMib: 2048,
    diskBytes: 20 * 1024 ** 3,
    ports: [
      { protocol: 'tcp', bind: '127.0.0.1', hostPort: 3000, prefersHostPort: true, guestPort: 3000 },
      { protocol: 'tcp', bind: '127.0.0.1', hostPort: 8080, guestPort: 80 },
      { protocol: 'udp', bind: '0.0.0.0', hostPort: 53, guestPort: 53 },
    ],
    env: { NODE_ENV: 'development' },
    setup: [
      { argv: ['sh', '-c', 'npm ci && npm run build'], text: 'npm ci && npm run build' },
      { argv: ['make', 'deps', 'a b'], text: 'make deps "a b"' },
    ],
    guestPath: '/srv/app',
    bootstrap: false,
  });
  expect(parse('')).toMatchObject({ ports: [], env: {}, setup: [], bootstrap: true });
});

test.each([
  ['imgae = "node"', 'unknown key "imgae"; did you mean "image"?'],
  [
    'memroy = "2G"\nport = [1]',
    'unknown key "memroy"; did you mean "memory"?; unknown key "port"; did you mean "ports"?',
  ],
  ['[vm]\ncpus = 2', 'unknown key "vm"'],
  ['mounts = ["/:/host"]', 'unknown key "mounts"'],
  ['ports = [0]', '"ports.0"'],
  ['ports = ["70000:80"]', '"ports.0": "70000" is not a port'],
  ['ports = ["localhost:80:80"]', '"localhost" is not an IPv4 address'],
  ['setup = ["  "]', '"setup.0": is empty'],
  ['setup = [[]]', '"setup.0": is empty'],
  ['setup = [1]', '"setup.0": is neither a command nor an array of words'],
  ['guest_path = "/etc"', '"guest_path": "/etc" cannot hold a workspace'],
  ['[env]\n"A-B" = "1"', '"env.A-B": the name of a variable'],
  ['[env]\nA = 1', '"env.A"'],
  ['cpus = "2"', '"cpus": is not a number'],
  ['cpus = 0', '"cpus": is less than 1'],
  ['setup = "make"', '"setup": is not a list'],
  ['memory = "lots"', '"memory": "lots" is not a size'],
  ['image = = "x"', 'line 1 is not TOML'],
])('%j is refused: %s', (text, words) => {
  const error = (() => {
    try {
      return parse(text);
    } catch (thrown) {
      return thrown as Error;
    }
  })();
  expect(error).toMatchObject({
    code: 'invalid_argument',
    message: expect.stringMatching(/^"\/src\/app\/banger.toml"/) as string,
    hint: 'Correct it with: ${EDITOR:-vi} /src/app/banger.toml',
  });
  expect((error as Error).message).toContain(words);
});

test('a tree cannot have files of the host sent', () => {
  expect(() => parse('[[file_sync]]\nhost = "~/.ssh"\n')).toThrow(
    '"/src/app/banger.toml": "file_sync": a tree cannot ask for files of this host',
  );
});
